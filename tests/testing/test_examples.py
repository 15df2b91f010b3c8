"""Example signals hold what a loss asks for and nothing else; the contract notices what is asked for and not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import pytest
import torch
from torch import Tensor

from limbeck.losses.base import Loss, extra_of, head_of, logits_of, views_of
from limbeck.testing import CHECKS, ContractError, check_name, examples, instances, run_check
from limbeck.testing.examples import CLASSES, Example, tensors
from limbeck.types import Head, Needs, Signals

BY_NAME = {check_name(check): check for check in CHECKS}


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Asking(Loss):
    """Asks for what it is told."""

    wants: Needs = Needs()  # noqa: RUF009 - immutable

    @property
    def needs(self) -> Needs:
        return self.wants

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return logits_of(student).sum(-1)


def made(batch: int = 6, **needs: Any) -> list[Example]:
    keys = {key: needs.pop(key) for key in ("same", "dtype", "scale", "seed") if key in needs}
    return examples(Asking(wants=Needs(**needs)), batch=batch, **keys)


def test_nothing_is_there_that_was_not_asked_for():
    (example,) = made(logits=True)
    for signals in (example.student, example.teacher):
        assert signals.features == {}
        assert signals.extra == {}
        assert signals.head is None
        assert signals.views == ()
    assert example.labels is None
    assert tuple(example.student.logits.shape) == (6, CLASSES)
    (alone,) = made(logits=True, teacher=False, labels=True, label_kinds=("class",))
    assert alone.teacher == Signals()
    assert alone.labels is not None
    assert alone.labels.shape == (6,)


@pytest.mark.parametrize(
    ("side", "mine", "theirs"), [("student", True, False), ("teacher", False, True), ("both", True, True), ("none", False, False)]
)
def test_heads_are_on_the_side_that_is_asked(side: Any, mine: bool, theirs: bool):
    for example in made(logits=True, features="one", match="any", head=side):
        assert (example.student.head is not None) is mine
        assert (example.teacher.head is not None) is theirs


def test_heads_have_the_channels_of_the_last_feature():
    for example in made(features="many", match="any", head="both"):
        channels = {"vectors": (6, 9), "tokens": (6, 8), "maps": (4, 6)}[example.form]
        for signals, count in zip((example.student, example.teacher), channels, strict=True):
            head = signals.head
            assert isinstance(head, Head)
            assert tuple(head.weight.shape) == (CLASSES, count)
            assert head.bias is not None
            assert tuple(head.bias.shape) == (CLASSES,)
            assert head.weight.unique().numel() == head.weight.numel(), "rows that are alike would hide a mistake"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_heads_are_of_the_signals_precision_and_of_order_one(dtype: torch.dtype, scale: float):
    for example in made(features="one", match="full", head="teacher", dtype=dtype, scale=scale):
        head = example.teacher.head
        assert head is not None
        assert head.weight.dtype == dtype
        assert head.bias is not None
        assert head.bias.dtype == dtype
        assert 0.3 < head.weight.float().abs().mean() < 3


def test_same_models_have_the_same_classifier_and_views():
    for example in made(logits=True, features="one", match="any", head="both", rotations=True, same=True):
        assert example.student.head is example.teacher.head
        assert all(torch.equal(a, b) for a, b in zip(tensors(example.student), tensors(example.teacher), strict=True))


def test_the_index_names_the_rows_and_a_mask_is_binary():
    (example,) = made(logits=True, extra=("index", "mask"))
    assert torch.equal(example.student.extra["index"], torch.arange(6))
    mask = example.student.extra["mask"]
    assert tuple(mask.shape) == (6, 3, 3)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert example.teacher.extra == {}


def test_three_views_that_differ_from_the_images_and_each_other():
    for example in made(logits=True, features="many", match="any", rotations=True):
        for signals in (example.student, example.teacher):
            assert len(signals.views) == 3
            assert all(view.features.keys() == signals.features.keys() for view in signals.views)
            assert len({float(one.logits.sum()) for one in (signals, *signals.views)}) == 4
            assert len({float(one.features[path].sum()) for one in (signals, *signals.views) for path in one.features}) == 8


def test_a_change_reaches_views_and_a_choice_of_rows_all_that_is_of_an_example():
    (example,) = made(logits=True, extra=("index",), rotations=True)
    changed = example.map(lambda x: x + 1)
    assert torch.equal(changed.student.views[1].logits, example.student.views[1].logits + 1)
    assert torch.equal(changed.student.extra["index"], torch.arange(6)), "an index is no value"
    few = example.map(lambda x: x[[4, 2]], labels=True)
    assert few.student.extra["index"].tolist() == [4, 2]
    assert torch.equal(few.teacher.views[2].logits, example.teacher.views[2].logits[[4, 2]])
    only = example.map(lambda x: x + 1, teacher=False)
    assert only.teacher is example.teacher
    assert len(example.inputs()) == 4
    assert example.inputs()[0] is example.student.logits


def test_every_seed_has_values_of_its_own():
    first, again, other = (made(logits=True, seed=seed)[0].student.logits for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Further(Loss):
    """Reads both classifiers, the views, the index and a mask, but for what `without` names."""

    without: Literal["nothing", "student head", "teacher head", "student views", "teacher views", "mask", "index"] = "nothing"

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any", head="both", rotations=True, extra=("index", "mask"))

    def allocate(self, examples: int) -> None:
        self.register_buffer("bank", torch.arange(examples) + 1.0)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        value = student.feature.flatten(1).square().sum(-1) + teacher.feature.flatten(1).square().sum(-1)
        value = value + (0 if self.without == "student head" else head_of(student, "student").weight.square().sum())
        value = value + (0 if self.without == "teacher head" else head_of(teacher).weight.square().sum())
        for view in () if self.without == "student views" else views_of(student):
            value = value + view.feature.flatten(1).square().sum(-1)
        for view in () if self.without == "teacher views" else views_of(teacher):
            value = value + view.feature.flatten(1).square().sum(-1)
        if self.without != "mask":
            value = value * (1 + extra_of(student, "mask").flatten(1).mean(-1))
        return value if self.without == "index" else value * self.bank[extra_of(student, "index")]


def only(choice: str) -> type[Loss]:
    """The loss with another default."""
    return final(
        dataclass(eq=False, repr=False, kw_only=True)(type("Only", (Further,), {"without": choice, "__annotations__": {"without": str}}))
    )


@pytest.mark.parametrize("check", ["needs", "missing", "shape", "independence", "purity", "permutation"])
def test_a_loss_that_reads_what_it_asks_for_is_sound(check: str):
    assert run_check(BY_NAME[check], only("nothing")) is None


@pytest.mark.parametrize("what", ["student head", "teacher head", "student views", "teacher views", "mask"])
def test_what_is_asked_for_and_not_read_is_named(what: str):
    named = what.replace(" ", "'s ") if " " in what else f"student's {what}"
    if "head" not in what:  # of which a loss may read the shape only
        with pytest.raises(ContractError, match=f"needs name the {named}, but changing it does not change the value"):
            run_check(BY_NAME["needs"], only(what))
    with pytest.raises(ContractError, match=f"it runs without its {named}, which its needs name"):
        run_check(BY_NAME["missing"], only(what))


def test_an_index_that_is_not_read_is_named():
    with pytest.raises(ContractError, match="it runs without its student's index"):
        run_check(BY_NAME["missing"], only("index"))


def test_every_choice_is_an_instance():
    assert [one.without for one in instances(Further)] == [
        "nothing", "student head", "teacher head", "student views", "teacher views", "mask", "index",
    ]  # fmt: skip
