"""Teachers that follow the student, and teachers that are made of others."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from limbeck.errors import LimbeckError, ShapeMismatch, SignalMissing
from limbeck.registry import TEACHERS
from limbeck.teachers.base import Setting, Teacher, TeacherRequest
from limbeck.teachers.ema import EMATeacher, momentum_at
from limbeck.teachers.ensemble import EnsembleTeacher, combined, surest
from limbeck.teachers.frozen import FrozenTeacher
from limbeck.teachers.snapshot import SnapshotTeacher
from limbeck.types import IGNORE, Batch, Signals

CPU = torch.device("cpu")
REQUEST = TeacherRequest((), True, CPU)


def call(model, batch):
    return Signals(model(batch.inputs))


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 5))


def batch(labels=None):
    return Batch(torch.randn(6, 3), labels if labels is not None else torch.randint(5, (6,)), torch.arange(6))


def opened(teacher: Teacher, learner: nn.Module, **changes) -> Teacher:
    teacher.open(Setting(**{"request": REQUEST, "call": call, "learner": learner, "module": copy.deepcopy(learner), **changes}))
    return teacher


def weights(teacher) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in teacher.speaker.module.state_dict().items()}


@pytest.mark.parametrize("cls", [FrozenTeacher, EMATeacher, SnapshotTeacher])
def test_answers_without_a_gradient_in_evaluation_mode(cls):
    learner = net().train()
    teacher = opened(cls(), learner)
    before = copy.deepcopy(learner.state_dict())
    said = teacher.signals(batch())
    assert not said.logits.requires_grad
    assert learner.training
    assert all(p.requires_grad for p in learner.parameters())
    assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
    assert not isinstance(teacher, nn.Module)


def test_ema_by_hand():
    learner = net()
    teacher = opened(EMATeacher(momentum=0.9), learner)
    first = weights(teacher)
    with torch.no_grad():
        for p in learner.parameters():
            p.add_(1.0)
    learner[1].running_mean.fill_(7.0)
    teacher.after_step(learner)
    for name, value in weights(teacher).items():
        if name in dict(learner.named_parameters()):
            torch.testing.assert_close(value, first[name] + 0.1)
    assert teacher.speaker.module[1].running_mean.tolist() == [7.0] * 4
    assert not any(torch.equal(a, b) for a, b in zip(teacher.speaker.module.parameters(), learner.parameters(), strict=True))


@pytest.mark.parametrize(("buffers", "expected"), [("average", 4.0), ("copy", 8.0), ("own", 0.0)])
def test_ema_of_buffers(buffers, expected):
    learner = net()
    teacher = opened(EMATeacher(momentum=0.5, buffers=buffers), learner)
    learner[1].running_mean.fill_(8.0)
    learner[1].num_batches_tracked.fill_(3)
    teacher.after_step(learner)
    assert teacher.speaker.module[1].running_mean.tolist() == [expected] * 4
    assert teacher.speaker.module[1].num_batches_tracked.item() == (0 if buffers == "own" else 3)


def test_ema_every_few_updates_or_epochs():
    learner = net()
    teacher = opened(EMATeacher(momentum=0.0, every=2), learner)
    with torch.no_grad():
        learner[0].weight.fill_(1)
    teacher.after_step(learner)
    assert teacher.speaker.module[0].weight.eq(1).all()
    with torch.no_grad():
        learner[0].weight.fill_(2)
    teacher.after_step(learner)
    teacher.after_epoch(learner, True)
    assert teacher.speaker.module[0].weight.eq(1).all()
    teacher.after_step(learner)
    assert teacher.speaker.module[0].weight.eq(2).all()

    epochs = opened(EMATeacher(momentum=0.0, per="epoch"), learner)
    with torch.no_grad():
        learner[0].weight.fill_(3)
    epochs.after_step(learner)
    assert epochs.speaker.module[0].weight.eq(2).all()
    epochs.after_epoch(learner, False)
    assert epochs.speaker.module[0].weight.eq(3).all()


@pytest.mark.parametrize(
    ("schedule", "update", "expected"),
    [
        ("constant", 5, 0.9),
        ("cosine", 0, 0.9),
        ("cosine", 5, 0.95),
        ("cosine", 10, 1.0),
        ("cosine", 99, 1.0),
        ("linear", 5, 0.95),
        ("linear", 10, 1.0),
        ("ramp", 0, 0.0),
        ("ramp", 1, 0.5),
        ("ramp", 1000, 0.9),
    ],
)
def test_momentum(schedule, update, expected):
    found = momentum_at(update, 10, momentum=0.9, end=1.0, schedule=schedule, warmup=0.0)
    assert found == pytest.approx(expected)


def test_momentum_ramp_with_warmup():
    assert momentum_at(3, 0, momentum=0.9, end=1.0, schedule="ramp", warmup=2.0) == pytest.approx(0.5)
    assert math.isclose(momentum_at(0, 0, momentum=0.5, end=0.8, schedule="linear", warmup=0), 0.8)


@pytest.mark.parametrize("cls", [EMATeacher, SnapshotTeacher])
def test_state_is_all_that_a_restart_needs(cls):
    learner = net()
    a = opened(cls(every=2), learner)
    for _ in range(3):
        with torch.no_grad():
            learner[0].weight.mul_(1.1)
        a.after_step(learner)
        a.after_epoch(learner, True)
    kept = {name: value.clone() for name, value in a.state().items()}
    b = opened(cls(every=2), net(seed=5))
    b.load_state(kept)
    for teacher in (a, b):
        teacher.after_step(learner)
        teacher.after_epoch(learner, True)
    assert all(torch.equal(x, y) for x, y in zip(a.state().values(), b.state().values(), strict=True))


@pytest.mark.parametrize(("of", "after_epoch", "after_best"), [("epoch", True, True), ("best", False, True), ("start", False, False)])
def test_snapshot(of, after_epoch, after_best):
    learner = net()
    teacher = opened(SnapshotTeacher(of=of), learner)
    with torch.no_grad():
        learner[0].weight.fill_(1)
    teacher.after_step(learner)
    assert not teacher.speaker.module[0].weight.eq(1).any()
    teacher.after_epoch(learner, False)
    assert teacher.speaker.module[0].weight.eq(1).all().item() is after_epoch
    teacher.after_epoch(learner, True)
    assert teacher.speaker.module[0].weight.eq(1).all().item() is after_best


def test_snapshot_every_second_epoch():
    learner = net()
    teacher = opened(SnapshotTeacher(every=2), learner)
    with torch.no_grad():
        learner[0].weight.fill_(1)
    teacher.after_epoch(learner, True)
    assert not teacher.speaker.module[0].weight.eq(1).any()
    teacher.after_epoch(learner, False)
    assert teacher.speaker.module[0].weight.eq(1).all()


class Says(Teacher):
    """Always the same."""

    def __init__(self, logits):
        self.logits = torch.tensor(logits)

    def open(self, setting):
        pass

    def signals(self, batch):
        return Signals(self.logits)


def ensemble(answers: dict, **fields):
    teacher = EnsembleTeacher(members=list(answers), **fields)
    teacher.open(Setting(request=REQUEST, call=call, members={name: Says(value) for name, value in answers.items()}))
    return teacher


def logs(*rows):
    return [[math.log(p) for p in row] for row in rows]


def test_mean_of_probabilities_by_hand():
    teacher = ensemble({"a": logs([0.5, 0.3, 0.2]), "b": logs([0.1, 0.1, 0.8])}, weights=[3, 1])
    assert teacher.signals(batch()).logits.softmax(-1).tolist()[0] == pytest.approx([0.4, 0.25, 0.35])
    equal = ensemble({"a": logs([0.5, 0.3, 0.2]), "b": logs([0.1, 0.1, 0.8])})
    assert equal.signals(batch()).logits.softmax(-1).tolist()[0] == pytest.approx([0.3, 0.2, 0.5])


def test_mean_at_a_temperature_is_the_mean_at_that_temperature():
    a, b = torch.randn(2, 4, 7).unbind()
    known = torch.ones(2, 1, 7, dtype=torch.bool)
    found = combined(torch.stack([a, b]), known, torch.ones(2), combine="probabilities", temperature=3.0)
    torch.testing.assert_close((found / 3).softmax(-1), ((a / 3).softmax(-1) + (b / 3).softmax(-1)) / 2)


def test_mean_of_logits_by_hand():
    assert ensemble({"a": [[1.0, 2.0]], "b": [[3.0, -2.0]]}, combine="logits", weights=[1, 3]).signals(batch()).logits.tolist() == [
        [2.5, -1.0]
    ]


def test_the_surest_speaks():
    answers = {"a": logs([0.6, 0.4], [0.1, 0.9]), "b": logs([0.3, 0.7], [0.2, 0.8])}
    said = ensemble(answers, combine="confidence").signals(batch())
    assert said.extra["member"].tolist() == [1, 0]
    assert said.logits.tolist() == [answers["b"][0], answers["a"][1]] or torch.allclose(
        said.logits, torch.tensor([answers["b"][0], answers["a"][1]])
    )
    by_label = ensemble(answers, combine="label").signals(batch(torch.tensor([0, IGNORE])))
    assert by_label.extra["member"].tolist() == [0, 0]
    assert surest(torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]), None, temperature=1.0).tolist() == [0]


def test_each_data_set_has_its_teacher():
    teacher = ensemble({"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[5.0, 6.0], [7.0, 8.0]]}, combine="dataset")
    with_names = batch()
    with_names.extra["dataset"] = torch.tensor([1, 0])
    assert teacher.signals(with_names).logits.tolist() == [[5.0, 6.0], [3.0, 4.0]]
    with pytest.raises(SignalMissing, match="needs the signal 'dataset'"):
        teacher.signals(batch())


def test_specialists_in_a_mean_leave_unknown_classes_to_the_others():
    teacher = ensemble(
        {"low": [[1.0, 2.0]], "high": [[3.0, 4.0]], "all": [[0.0, 0.0, 0.0, 0.0]]},
        combine="logits",
        classes={"low": [0, 1], "high": [2, 3]},
    )
    assert teacher.signals(batch()).logits.tolist() == [[0.5, 1.0, 1.5, 2.0]]
    disjoint = ensemble({"low": logs([0.9, 0.1]), "high": logs([0.2, 0.8])}, classes={"low": [1, 0], "high": [2, 3]}, outputs=4)
    assert disjoint.signals(batch()).logits.softmax(-1).tolist()[0] == pytest.approx([0.05, 0.45, 0.1, 0.4])


def test_a_specialist_that_is_chosen_knows_no_other_class():
    teacher = ensemble({"low": logs([0.95, 0.05]), "all": logs([0.25] * 4)}, combine="confidence", classes={"low": [0, 1]})
    assert teacher.signals(batch()).logits.softmax(-1).tolist()[0] == pytest.approx([0.95, 0.05, 0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": ["a"]}, "two or more different members, found"),
        ({"members": ["a", "a"]}, "two or more different members"),
        ({"members": ["a", "b"], "weights": [1.0]}, "one weight a member, not all 0; found 1 for 2"),
        ({"members": ["a", "b"], "weights": [0.0, 0.0]}, "one weight a member, not all 0"),
        ({"members": ["a", "b"], "classes": {"c": [0]}}, "`classes` names c, which is no member"),
    ],
)
def test_ensembles_that_make_no_sense(fields, message):
    with pytest.raises(LimbeckError, match=message):
        EnsembleTeacher(**fields)


def test_members_that_do_not_fit():
    with pytest.raises(ShapeMismatch, match="the member 'b' gives 3 outputs, expected 4 of 4 classes"):
        ensemble({"a": [[0.0] * 4], "b": [[0.0] * 3]}).signals(batch())
    teacher = EnsembleTeacher(members=["a", "b"])
    with pytest.raises(
        SignalMissing, match=r"an ensemble has no layers, and a term reads 'stage1' of it. Name one of its members with `from`"
    ):
        teacher.open(Setting(request=TeacherRequest(("stage1",), True, CPU), call=call, members={"a": Says([[0.0]])}))
    with pytest.raises(LimbeckError, match="needs two or more members"):
        teacher.open(Setting(request=REQUEST, call=call))


@pytest.mark.parametrize("name", TEACHERS.names())
def test_what_a_kind_needs_is_asked_for(name):
    cls = TEACHERS.get(name)
    if cls.source == "own":
        with pytest.raises(LimbeckError, match="needs a model; name it with `model`"):
            cls().open(Setting(request=REQUEST, call=call))
    if cls.source == "learner":
        with pytest.raises(LimbeckError, match="is made from the student"):
            cls().open(Setting(request=REQUEST, call=call))
