"""Be your own teacher: value by hand, an oracle, what is a target, and what is exported."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from limbeck.errors import SignalMissing
from limbeck.losses.self_exits import SelfExits, exit_value
from limbeck.run import distill
from limbeck.types import IGNORE, Signals

LABELS = torch.tensor([0, 3, 1])


def student(*, grad=False):
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 4, 8, 8), "b": (3, 5, 4, 4), "c": (3, 6, 2, 2)}
    features = {name: torch.randn(*shape, generator=generator, requires_grad=grad) for name, shape in shapes.items()}
    return Signals(torch.randn(3, 4, generator=generator, requires_grad=grad), features)


def ready(**fields):
    torch.manual_seed(0)
    loss = SelfExits(**fields)
    loss.setup(student(), Signals())
    return loss


def test_by_hand():
    """An exit without opinion over two classes, whose teacher says (3/4, 1/4) at T = 3; the vectors are (1, 2) and (3, 5)."""
    final = torch.tensor([[3 * math.log(3), 0.0]]), torch.tensor([[3.0, 5.0]])
    shares = {"alpha": 0.25, "temperature": 3.0, "feature_weight": 0.1}
    got = exit_value(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]), final, torch.tensor([1]), **shares)
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert got.tolist() == pytest.approx([0.75 * math.log(2) + 0.25 * 9 * divergence + 0.1 * 13])


def test_oracle():
    said, loss = student(), ready(alpha=0.4, temperature=2.0, feature_weight=0.2)
    expected = F.cross_entropy(said.logits, LABELS, reduction="none")
    deepest = said.features["c"].mean((2, 3))
    for branch, name in zip(loss.exits, "ab", strict=True):
        vector, answer = branch(said.features[name])
        expected = expected + 0.6 * F.cross_entropy(answer, LABELS, reduction="none")
        soft = F.kl_div((answer / 2).log_softmax(1), (said.logits / 2).softmax(1), reduction="none").sum(1)
        expected = expected + 0.4 * 4 * soft + 0.2 * (vector - deepest).square().sum(1)
    torch.testing.assert_close(loss(said, Signals(), LABELS), expected)


def test_deep_supervision_is_a_limit():
    said, loss = student(), ready(alpha=0.0, feature_weight=0.0)
    answers = [said.logits, *(branch(said.features[name])[1] for branch, name in zip(loss.exits, "ab", strict=True))]
    expected = torch.stack([F.cross_entropy(answer, LABELS, reduction="none") for answer in answers]).sum(0)
    torch.testing.assert_close(loss(said, Signals(), LABELS), expected)


def test_the_end_is_a_target_only():
    said = student(grad=True)
    ready()(said, Signals(), LABELS).sum().backward()
    alone = said.logits.detach().clone().requires_grad_()
    F.cross_entropy(alone, LABELS, reduction="sum").backward()
    torch.testing.assert_close(said.logits.grad, alone.grad)
    assert torch.equal(said.features["c"].grad, torch.zeros(3, 6, 2, 2))  # pyright: ignore[reportArgumentType]
    assert all(said.features[name].grad is not None for name in "ab")


def test_exits_are_as_wide_as_the_deepest_layer_and_learn():
    loss = ready()
    vectors = [branch(student().features[name])[0].shape for branch, name in zip(loss.exits, "ab", strict=True)]
    assert vectors == [(3, 6), (3, 6)]
    loss(student(), Signals(), LABELS).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in loss.exits.parameters() if p.ndim > 1)


def test_unlabelled_examples_do_not_count():
    said, loss = student(), ready()
    labels = torch.tensor([0, IGNORE, 1])
    got, full = loss(said, Signals(), labels), loss(said, Signals(), LABELS)
    assert got[1] == 0
    assert torch.equal(got[[0, 2]], full[[0, 2]])


def test_too_few_layers():
    one = Signals(torch.zeros(2, 3), {"a": torch.zeros(2, 4)})
    with pytest.raises(SignalMissing, match=r"^SelfExits needs 2 or more layers of the student, the deepest last; found \['a'\]\.$"):
        SelfExits().setup(one, Signals())
    with pytest.raises(SignalMissing, match="SelfExits needs 3 or more layers"):
        ready()(Signals(torch.zeros(3, 4), {"a": torch.zeros(3, 4, 8, 8)}), Signals(), LABELS)


def test_defaults_and_needs():
    loss = SelfExits()
    assert (loss.alpha, loss.temperature, loss.feature_weight, loss.teaches) == (0.3, 3.0, 0.03, True)
    needs = loss.needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, True, False, "many", ("class",))


def test_bounds():
    for name, value, bound in (("alpha", 2, "<= 1"), ("temperature", 0, "> 0"), ("feature_weight", -1, ">= 0")):
        arguments: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=rf"^SelfExits\.{name} must be {bound}, got {value}$"):
            SelfExits(**arguments)


def recipe(**terms):
    student = {"model": "convnet", "args": {"channels": [4, 8]}}
    train = {"epochs": 1, "steps": 3, "batch_size": 16}
    return {"task": "classification", "data": "sklearn:digits", "student": student, "train": train, "objective": terms}


def test_the_exported_student_has_no_exits(tmp_path):
    exits = {"loss": "self_exits", "student": ["stage1", "stage2"]}
    taught = distill(recipe(own={**exits}), out=tmp_path / "exits", device="cpu", report=False)
    plain = distill(recipe(labels="cross_entropy"), out=tmp_path / "plain", device="cpu", report=False)
    files = [load_file(result.report.parent / "student" / "model.safetensors") for result in (taught, plain)]
    assert {key: value.shape for key, value in files[0].items()} == {key: value.shape for key, value in files[1].items()}
    learned = load_file(next((tmp_path / "exits" / "checkpoints").glob("stage*/learner.safetensors")))
    assert any(key.startswith("objective.losses.own.exits.0") for key in learned)


def test_alone_is_without_exits(tmp_path):
    own = {"own": {"loss": "self_exits", "student": ["stage1", "stage2"], "weight": 1.0}}
    both = distill({**recipe(**own), "baseline": True}, out=tmp_path / "both", device="cpu", report=False).results["models"]
    plain = distill(recipe(labels="cross_entropy"), out=tmp_path / "plain", device="cpu", report=False).results["models"]
    assert both["alone"]["metrics"] == plain["student"]["metrics"]
    assert both["student"]["metrics"] != plain["student"]["metrics"]
