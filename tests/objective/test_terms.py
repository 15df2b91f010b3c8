"""What an objective asks of its models, and what a term does to signals before its loss sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import pytest
import torch
from torch import Tensor

from limbeck.losses.base import Loss
from limbeck.losses.kd import KD
from limbeck.losses.sp import SP
from limbeck.objective import Counts, Objective, Term
from limbeck.objective.equip import Asked
from limbeck.targets.base import Target
from limbeck.types import Head, Needs, Signals


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Asking(Loss):
    """Gives what it saw; needs what it is told."""

    wants: Needs

    @property
    def needs(self) -> Needs:
        return self.wants

    def allocate(self, examples: int) -> None:
        self.register_buffer("rows", torch.zeros(examples, 2))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        self.__dict__["saw"] = (student, teacher, labels)
        return student.logits.sum(-1) if student.logits is not None else student.feature.flatten(1).sum(-1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Scaled(Target):
    """Adds, then multiplies the student's logits."""

    plus: float = 0.0
    times: float = 1.0

    def forward(self, student: Signals, teacher: Signals) -> tuple[Signals, Signals]:
        return replace(student, logits=(student.logits + self.plus) * self.times), teacher


def objective(*wants: Needs, **keys: object) -> Objective:
    return Objective([Term(f"term{i}", Asking(wants=need), **keys) for i, need in enumerate(wants)])  # type: ignore[arg-type]


def test_nothing_is_asked_unless_a_loss_needs_it():
    plain = Objective([Term("kd", KD())])
    assert plain.asked() == Asked()
    assert plain.asked("teacher") == Asked()


@pytest.mark.parametrize(("side", "mine", "theirs"), [("student", True, False), ("teacher", False, True), ("both", True, True)])
def test_heads_are_asked_of_their_side(side: str, mine: bool, theirs: bool):
    asking = objective(Needs(head=side), Needs())  # type: ignore[arg-type]
    assert asking.asked().head is mine
    assert asking.asked("teacher").head is theirs
    assert asking.asked("other").head is False


def test_extras_are_asked_of_the_student_and_joined():
    asking = objective(Needs(extra=("index",)), Needs(extra=("mask", "index")))
    assert asking.asked().extra == {"index", "mask"}
    assert asking.asked("teacher").extra == frozenset()


def test_rotations_are_asked_of_the_student_and_of_the_teacher_it_is_compared_with():
    asking = Objective([Term("a", Asking(wants=Needs(rotations=True)), source="one"), Term("b", Asking(wants=Needs()), source="two")])
    assert (asking.asked().rotations, asking.asked("one").rotations, asking.asked("two").rotations) == (True, True, False)


def test_only_a_loss_that_asked_for_rotations_sees_them():
    plain, rotated = Asking(wants=Needs(logits=True)), Asking(wants=Needs(logits=True, rotations=True))
    whole = Objective([Term("plain", plain, source="one"), Term("rotated", rotated, source="two")])
    view = Signals(torch.ones(2, 3))
    student, teachers = Signals(torch.zeros(2, 3), views=(view,) * 3), {"one": view, "two": Signals(torch.zeros(2, 3), views=(view,) * 3)}
    whole.setup(student, teachers)
    whole(student, teachers, None, Counts(2.0, 2.0))
    assert [len(signals.views) for signals in (*plain.saw[:2], *rotated.saw[:2])] == [0, 0, 3, 3]
    assert len(student.views) == 3


def test_a_term_without_layers_sees_none_of_another_terms():
    """A loss on a layer or else the logits would otherwise compare the other term's layers."""
    plain, layered = Asking(wants=Needs(logits=True, features="optional")), Asking(wants=Needs(features="one", match="any"))
    whole = Objective([Term("plain", plain), Term("layered", layered, student=("x",), teacher=("y",))])
    student, teacher = Signals(torch.ones(2, 3), {"x": torch.ones(2, 4)}), Signals(torch.ones(2, 3), {"y": torch.ones(2, 5)})
    whole.setup(student, {"teacher": teacher})
    whole(student, {"teacher": teacher}, None, Counts(2.0, 2.0))
    assert [list(signals.features) for signals in (*plain.saw[:2], *layered.saw[:2])] == [[], [], ["x"], ["y"]]
    assert list(student.features) == ["x"]


def test_rows_are_made_for_every_term():
    asking = objective(Needs(), Needs())
    asking.allocate(5)
    assert {name: tuple(value.shape) for name, value in asking.named_buffers()} == {
        "losses.term0.rows": (5, 2),
        "losses.term1.rows": (5, 2),
    }


@pytest.mark.parametrize(
    ("needs", "layers", "reads"),
    [
        (Needs(logits=True), (), True),
        (Needs(logits=True, features="optional"), (), True),
        (Needs(logits=True, features="optional"), ("a",), False),
        (Needs(logits=True, features="one"), ("a",), True),
        (Needs(logits=True, features="many"), ("a", "b"), True),
        (Needs(features="many"), ("a", "b"), False),
    ],
)
def test_who_reads_logits(needs: Needs, layers: tuple[str, ...], reads: bool):
    """So that the forward of a loss that reads layers and logits does not end at the last layer."""
    asking = objective(needs, student=layers)
    assert asking.needs_student_logits() is reads
    assert asking.needs_teacher_logits("teacher") is reads
    assert asking.needs_teacher_logits("other") is False


def test_targets_are_applied_in_order_and_originals_stay():
    loss = Asking(wants=Needs(logits=True))
    term = Term("kd", loss, targets=(Scaled(plus=1.0), Scaled(times=3.0)))
    whole = Objective([term])
    student, teacher = Signals(torch.ones(2, 3)), Signals(torch.zeros(2, 3))
    whole.setup(student, {"teacher": teacher})
    total, _ = whole(student, {"teacher": teacher}, None, Counts(2.0, 2.0))
    assert torch.equal(loss.saw[0].logits, torch.full((2, 3), 6.0))
    assert torch.equal(student.logits, torch.ones(2, 3))
    assert total.item() == pytest.approx(18.0)


def test_a_target_is_a_part_of_the_objective():
    """Whatever learns in it is trained and saved."""
    target = Scaled()
    target.register_parameter("level", torch.nn.Parameter(torch.zeros(1)))
    assert [name for name, _ in Objective([Term("kd", KD(), targets=(Scaled(), target))]).named_parameters()] == ["targets.kd_1.level"]


def test_head_extra_and_views_reach_the_loss_with_their_layers():
    loss = Asking(wants=Needs(features="one", match="any", rotations=True))
    whole = Objective([Term("a", loss, student=("x",), teacher=("y",))])
    head = Head(torch.zeros(3, 2))
    view = Signals(torch.ones(2, 3), {"x": torch.ones(2, 4), "y": torch.zeros(2, 4), "z": torch.ones(2, 4)})
    student = Signals(torch.zeros(2, 3), {"x": torch.zeros(2, 4), "z": torch.ones(2, 4)}, {"index": torch.arange(2)}, head, (view,) * 3)
    teacher = Signals(torch.zeros(2, 3), {"y": torch.zeros(2, 4), "z": torch.ones(2, 4)}, {}, head, (view,) * 3)
    whole.setup(student, {"teacher": teacher})
    whole(student, {"teacher": teacher}, None, Counts(2.0, 2.0))
    mine, theirs, _ = loss.saw
    assert (list(mine.features), list(theirs.features)) == (["x"], ["y"])
    assert mine.head is head
    assert theirs.head is head
    assert torch.equal(mine.extra["index"], torch.arange(2))
    assert [list(one.features) for one in mine.views] == [["x"]] * 3
    assert all(torch.equal(one.feature, view.features["x"]) for one in mine.views)
    assert [list(one.features) for one in theirs.views] == [["y"]] * 3


def test_views_are_adapted_like_the_images():
    whole = Objective([Term("mse", Asking(wants=Needs(features="one", rotations=True)), student=("x",), teacher=("y",), adapter="linear")])
    view, other = Signals(features={"x": torch.randn(2, 4)}), Signals(features={"y": torch.randn(2, 6)})
    student = Signals(features={"x": torch.randn(2, 4)}, views=(view,) * 3)
    teacher = Signals(features={"y": torch.randn(2, 6)}, views=(other,) * 3)
    whole.setup(student, {"teacher": teacher})
    routed, _ = whole._plan[0].route(student, {"teacher": teacher})  # type: ignore[index]
    assert [tuple(one.feature.shape) for one in (routed, *routed.views)] == [(2, 6)] * 4
    adapter = whole.adapters["mse_0"]
    assert torch.equal(routed.views[0].feature, adapter(view.feature, other.feature)[0])


def test_all_that_is_of_an_example_is_gathered():
    """Two processes that hold the same: everything batch first comes twice, the classifier once."""
    loss = Asking(wants=Needs(logits=True, global_batch=True, rotations=True))
    whole = Objective([Term("a", loss)])
    head = Head(torch.zeros(3, 2))
    view = Signals(torch.ones(2, 3), {"x": torch.ones(2, 4)})
    student = Signals(torch.zeros(2, 3), {}, {"index": torch.arange(2)}, head, (view,) * 3)
    whole.setup(student, {"teacher": student})
    counts = Counts(4.0, 4.0, world=2)
    whole(student, {"teacher": student}, torch.tensor([5, 6]), counts, gather=lambda x: torch.cat([x, x]))
    mine, _, labels = loss.saw
    assert torch.equal(mine.extra["index"], torch.tensor([0, 1, 0, 1]))
    assert [one.logits.shape[0] for one in mine.views] == [4] * 3
    assert [one.feature.shape[0] for one in mine.views] == [4] * 3
    assert torch.equal(mine.head.weight, head.weight)
    assert mine.head.bias is None
    assert torch.equal(labels, torch.tensor([5, 6, 5, 6]))


def test_what_is_not_of_the_whole_batch_is_not_gathered():
    loss = Asking(wants=Needs(logits=True))
    whole = Objective([Term("a", loss), Term("sp", SP(), student=("x",))])
    student = Signals(torch.zeros(2, 3), {"x": torch.ones(2, 4)})
    whole.setup(student, {"teacher": student})
    whole(student, {"teacher": student}, None, Counts(4.0, 4.0, world=2), gather=lambda x: torch.cat([x, x]))
    assert loss.saw[0].logits.shape[0] == 2


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Whole(Loss):
    """A quantity of the batch with parameters, a classifier and indices: the spread of weighted answers."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="one", head="student", extra=("index",), global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        self.scale = torch.nn.Parameter(torch.linspace(1, 2, 3).to(student.logits))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        weight, bias = student.head.weight, student.head.bias  # type: ignore[union-attr]
        own = student.logits @ weight @ weight.T + bias
        answers = (own + student.logits * self.scale) * (1 + student.extra["index"])[:, None]
        return (answers @ answers.T - student.feature @ teacher.feature.T).square().mean()


class Tiny(torch.nn.Module):
    """A body and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = torch.nn.Linear(5, 4), torch.nn.Linear(4, 3)
        self.double()

    def forward(self, x: Tensor, index: Tensor) -> Signals:
        feature = self.body(x)
        return Signals(self.head(feature), {"x": feature}, {"index": index}, Head(self.head.weight, self.head.bias))


def learn(model: Tiny, whole: Objective, rows: slice, gather: object, world: int) -> dict[str, Tensor]:
    """Gradients of a process that holds `rows` of six examples."""
    generator = torch.Generator().manual_seed(1)
    inputs, layer = (torch.randn(6, size, generator=generator, dtype=torch.float64) for size in (5, 7))
    said, teacher = model(inputs[rows], torch.arange(6)[rows]), Signals(features={"y": layer[rows]})
    if whole._plan is None:
        torch.manual_seed(3)
        whole.setup(model(inputs, torch.arange(6)), {"teacher": Signals(features={"y": layer})})
        whole.double()
    total, values = whole(said, {"teacher": teacher}, None, Counts(6.0, 6.0, world=world), gather)  # type: ignore[arg-type]
    total.backward()
    named = [*model.named_parameters(), *whole.named_parameters()]
    return {**{name: p.grad for name, p in named if p.grad is not None}, "value": values.sum()}


def test_two_processes_have_the_gradient_of_one_in_the_parameters_of_losses_too():
    """Every process computes the whole of a batch quantity, so what it tells the loss's own parameters and a classifier is a share."""

    def fresh() -> tuple[Tiny, Objective]:
        torch.manual_seed(2)
        return Tiny(), Objective([Term("whole", Whole(), 0.7, student=("x",), teacher=("y",), adapter="linear")])

    one = learn(*fresh(), slice(0, 6), None, 1)
    assert {"losses.whole.scale", "head.weight", "head.bias", "body.weight"} < one.keys()
    assert sum(name.startswith("adapters") for name in one) == 2
    parts, said = (slice(0, 4), slice(4, 6)), ([], [])  # type: ignore[var-annotated]
    for rank, rows in enumerate(parts):  # what each process would send
        learn(*fresh(), rows, lambda x, kept=said[rank]: kept.append(x.detach()) or x, 2)
    found = []
    for rank, rows in enumerate(parts):
        others = iter(said[1 - rank])
        found.append(learn(*fresh(), rows, lambda x, o=others, r=rank: torch.cat([x, next(o)] if r == 0 else [next(o), x]), 2))
    for name, expected in one.items():
        ours = found[0][name] + found[1][name] if name == "value" else (found[0][name] + found[1][name]) / 2
        torch.testing.assert_close(ours, expected, msg=lambda text, name=name: f"{name}: {text}")
