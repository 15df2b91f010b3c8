"""The gate of an ensemble: it begins as the mean, learns who knows, rests where nothing is learned, and goes on after a restart."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.errors import LimbeckError
from limbeck.teachers._gate import Gate, statistics
from limbeck.teachers._once import Once
from limbeck.teachers.base import Setting, TeacherRequest
from limbeck.teachers.ensemble import EnsembleTeacher
from limbeck.types import IGNORE, Batch, Signals
from tests.runs import SMALL, distill
from tests.teachers.test_kinds import Says, call, ensemble, logs

CPU = torch.device("cpu")
LEARNER = nn.Linear(1, 1)


def batch(labels: torch.Tensor | None) -> Batch:
    return Batch(torch.zeros(8, 1), labels, torch.arange(8))


def two() -> tuple[dict[str, list[list[float]]], torch.Tensor]:
    """Where a is sure, it is right and b is wrong; where a is not, b is right."""
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    a = logs(*[[0.9, 0.05, 0.05]] * 4, *[[0.34, 0.33, 0.33]] * 4)
    b = logs(*[[0.2, 0.2, 0.6]] * 4, *[[0.2, 0.6, 0.2]] * 4)
    return {"a": a, "b": b}, labels


def test_statistics_by_hand():
    logits = torch.tensor([[[math.log(0.7), math.log(0.2), math.log(0.1)]], [[0.0, 0.0, 5.0]]])
    known = torch.tensor([[[True, True, True]], [[True, True, False]]])
    found = statistics(logits, known, temperature=1.0)
    entropy = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)) / math.log(3)
    assert found[0, 0].tolist() == pytest.approx([0.7, entropy, 0.5])
    assert found[1, 0].tolist() == pytest.approx([0.5, 1.0, 0.0]), "of the classes that it knows"


@pytest.mark.parametrize("weights", [(), (3.0, 1.0)])
def test_it_begins_as_the_mean(weights):
    answers, _ = two()
    gated = ensemble(answers, combine="gate", weights=weights).signals(batch(None))
    mean = ensemble(answers, combine="probabilities", weights=weights).signals(batch(None))
    torch.testing.assert_close(gated.logits.softmax(-1), mean.logits.softmax(-1))
    assert gated.extra["shares"].shape == (8, 2)


def test_the_gradient_is_that_of_the_mixture():
    answers, labels = two()
    labels[5] = IGNORE
    teacher = ensemble(answers, combine="gate")
    gate = teacher._gate
    assert gate is not None
    teacher.signals(batch(labels))
    logits = torch.tensor([answers["a"], answers["b"]])
    found = statistics(logits, torch.ones(2, 1, 3, dtype=torch.bool), temperature=1.0)
    slopes, bias = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, requires_grad=True)
    shares = (torch.einsum("kbs,ks->kb", found, slopes) + bias[:, None]).softmax(0)
    keep = labels != IGNORE
    said = (shares[..., None] * logits.softmax(-1)).sum(0)[keep, labels[keep]]
    (-said.log()).sum().backward()
    torch.testing.assert_close(gate.slopes.grad, slopes.grad)
    torch.testing.assert_close(gate.bias.grad, bias.grad)
    assert gate._seen.item() == 7


def test_it_learns_whom_to_listen_to():
    answers, labels = two()
    teacher = ensemble(answers, combine="gate", gate_rate=0.1)
    before = teacher.signals(batch(None)).logits.softmax(-1).gather(1, labels[:, None])
    for _ in range(60):
        teacher.signals(batch(labels))
        teacher.after_step(LEARNER)
    said = teacher.signals(batch(None))
    assert said.extra["shares"][:4, 0].min() > 0.9
    assert said.extra["shares"][4:, 1].min() > 0.9
    assert (said.logits.softmax(-1).gather(1, labels[:, None]) > before).all()
    assert not said.logits.requires_grad


def test_it_rests_without_labels_updates_or_gradients():
    answers, labels = two()
    teacher = ensemble(answers, combine="gate")
    start = teacher.state()["gate.slopes"].clone()
    for _ in range(3):
        teacher.signals(batch(labels))
    assert torch.equal(teacher.state()["gate.slopes"], start), "nothing moves before an update is over"
    other = ensemble(answers, combine="gate")
    with torch.no_grad():
        other.signals(batch(labels))
    other.signals(batch(None))
    other.after_step(LEARNER)
    assert torch.equal(other.state()["gate.slopes"], start)


def test_parts_of_an_update_count_like_the_whole():
    answers, labels = two()
    whole, parts = ensemble(answers, combine="gate"), ensemble(answers, combine="gate")
    whole.signals(batch(labels))
    for keep in (slice(0, 3), slice(3, 8)):
        masked = torch.full_like(labels, IGNORE)
        masked[keep] = labels[keep]
        parts.signals(batch(masked))
    for teacher in (whole, parts):
        teacher.after_step(LEARNER)
    torch.testing.assert_close(whole.state()["gate.slopes"], parts.state()["gate.slopes"])


def test_processes_are_joined():
    answers, labels = two()
    known = torch.ones(2, 1, 3, dtype=torch.bool)
    logits = torch.tensor([answers["a"], answers["b"]])
    found, said = statistics(logits, known, temperature=1.0), logits.log_softmax(-1)
    seen: list[torch.Tensor] = []

    def total(value: torch.Tensor) -> torch.Tensor:
        seen.append(value.clone())
        return value * 2

    one, two_alike = Gate([1.0, 1.0], 0.1, CPU, lambda value: value), Gate([1.0, 1.0], 0.1, CPU, total)
    for gate in (one, two_alike):
        gate.learn(found, said, labels)
        gate.move()
    assert len(seen) == 1
    assert seen[0][-1] == 8
    torch.testing.assert_close(one.slopes, two_alike.slopes)


def test_a_restart_goes_on():
    answers, labels = two()
    a, b = (ensemble(answers, combine="gate", gate_rate=0.1) for _ in range(2))
    for _ in range(3):
        a.signals(batch(labels))
        a.after_step(LEARNER)
    b.load_state({name: value.clone() for name, value in a.state().items()})
    for teacher in (a, b):
        teacher.signals(batch(labels))
        teacher.after_step(LEARNER)
    assert {"gate.slopes", "gate.bias", "gate.slopes.exp_avg", "gate.bias.step"} <= a.state().keys()
    assert all(torch.equal(value, b.state()[name]) for name, value in a.state().items())


def test_real_numbers_have_no_classes():
    with pytest.raises(LimbeckError, match="learns from the classes of examples"):
        ensemble(two()[0], combine="gate").signals(batch(torch.zeros(8)))


def test_others_keep_nothing():
    teacher = ensemble(two()[0])
    teacher.after_step(LEARNER)
    assert teacher.state() == {}
    teacher.load_state({})


class Counts(Says):
    """Counts its answers."""

    asked = 0

    def signals(self, batch):
        self.asked += 1
        return Signals(self.logits)


def test_who_is_heard_twice_answers_once_a_batch():
    inner = Counts([[1.0, 2.0]])
    once = Once(teacher=inner)
    both = EnsembleTeacher(members=["a", "b"])
    both.open(Setting(request=TeacherRequest((), True, CPU), call=call, members={"a": once, "b": Says([[1.0, 2.0]])}))
    first = batch(None)
    once.signals(first)
    both.signals(first)
    assert inner.asked == 1
    both.signals(batch(None))
    assert inner.asked == 2
    for change in (once.after_step, lambda learner: once.after_epoch(learner, True)):
        once.signals(first)
        asked = inner.asked
        change(LEARNER)
        once.signals(first)
        assert inner.asked == asked + 1


def test_a_member_that_a_term_reads_too_runs_once_a_batch(tmp_path: Path) -> None:
    runs: list[str] = []
    small = {"model": "mlp", "args": {"hidden": [8]}, "weights": "random"}
    recipe = {
        **SMALL,
        "teacher": None,
        "teachers": {"a": small, "b": small, "both": {"kind": "ensemble", "members": ["a", "b"], "combine": "gate"}},
    }
    recipe["objective"] = {"labels": "cross_entropy", "one": {"loss": "kd", "from": "a"}, "all": {"loss": "kd", "from": "both"}}

    def count(module: nn.Module, args: object, output: object) -> None:
        if type(module).__name__ == "MLP" and torch.is_tensor(args[0]) and len(args[0]) == 32:  # type: ignore[index]
            runs.append("run")

    hook = nn.modules.module.register_module_forward_hook(count)
    try:
        result = distill(recipe, set={"train.steps": 3}, out=tmp_path / "run", device="cpu")
    finally:
        hook.remove()
    assert len(runs) == 3 * 2
    names = {path.name for path in (result.folder / "checkpoints").glob("stage*/*.safetensors")}
    assert "teacher-both.safetensors" in names
