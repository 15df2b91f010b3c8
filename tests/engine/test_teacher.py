"""A teacher is right by construction."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.engine.checkpoint import latest, load
from limbeck.models.base import Normalization
from limbeck.registry import TASKS, TEACHERS
from limbeck.teachers.base import Setting, TeacherRequest
from limbeck.types import Batch
from tests.runs import SMALL, distill

TASK = TASKS.get("classification")()
CPU = torch.device("cpu")


class Counting(nn.Module):
    """Batch norm, dropout, and a count of how far a forward came."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.late = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 64, 10))
        self.reached = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.early(x)
        self.reached += 1
        return self.late(x)


def batch() -> Batch:
    return Batch(torch.rand(8, 1, 8, 8), torch.randint(0, 10, (8,)), torch.arange(8))


def teacher(module: nn.Module, kind: str = "frozen", *, taps: tuple[str, ...] = (), logits: bool = True) -> object:
    made = TEACHERS.get(kind)()
    made.open(Setting(TeacherRequest(taps, logits, CPU), lambda model, b: TASK.call(model, None, b), module))
    return made


OWN = [name for name in TEACHERS.names() if TEACHERS.get(name).source == "own"]


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("taps", [(), ("early",)])
def test_nothing_in_a_teacher_moves(kind: str, taps: tuple[str, ...]) -> None:
    module = Counting().train()
    made = teacher(module, kind, taps=taps)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for _ in range(3):
        module.train()  # what a wrapper around the teacher might do
        said = made.signals(batch())
        assert not said.logits.requires_grad
        assert not any(value.requires_grad for value in said.features.values())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(p.requires_grad for p in module.parameters())
    assert not isinstance(made, nn.Module), "a module could be registered as a part of the student"


def test_a_teacher_answers_the_same_whatever_stands_beside_an_example() -> None:
    made = teacher(Counting())
    whole = batch()
    alone = Batch(whole.inputs[:1], whole.labels[:1], whole.index[:1])
    torch.testing.assert_close(made.signals(whole).logits[:1], made.signals(alone).logits)


def test_the_forward_ends_after_the_last_tap() -> None:
    module = Counting()
    made = teacher(module, taps=("early",), logits=False)
    made.signals(batch())  # learns how the model treats its values
    reached = module.reached
    said = made.signals(batch())
    assert module.reached == reached
    assert said.logits is None
    assert list(said.features) == ["early"]


def test_each_model_has_its_own_normalisation(tmp_path: Path) -> None:
    """The same images reach a student and a teacher that were trained with other statistics, each in its own way."""
    recipe = {
        **SMALL,
        "teacher": {**SMALL["teacher"], "normalize": {"mean": [0.5], "std": [0.25]}},
        "student": {**SMALL["student"], "normalize": "none"},
        "train": {**SMALL["train"], "steps": 1},
    }
    seen: dict[str, torch.Tensor] = {}
    original = Normalization.apply

    def spy(self: Normalization, x: torch.Tensor) -> torch.Tensor:
        seen[str(self.mean)] = original(self, x)
        return seen[str(self.mean)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Normalization, "apply", spy)
        distill(recipe, out=tmp_path / "run", device="cpu")
    assert list(seen) == ["(0.5,)"]
    assert seen["(0.5,)"].min() == pytest.approx(-2.0)


def test_a_teacher_is_in_no_checkpoint_and_no_optimizer(tmp_path: Path) -> None:
    distill(SMALL, set={"train.ema": 0.9}, out=tmp_path / "run", device="cpu")
    groups, _ = load(latest(tmp_path / "run" / "checkpoints"))
    student = sum(value.numel() for name, value in groups["learner"].items() if name.startswith("model."))
    assert sum(value.numel() for value in groups["learner"].values()) == student
    assert sum(value.numel() for value in groups["ema"].values()) == student
    assert not [name for name in groups if "teacher" in name]
