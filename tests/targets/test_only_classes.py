"""Some of the classes only."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import LimbeckError, ShapeMismatch, SignalMissing
from limbeck.losses.kd import KD
from limbeck.targets.only_classes import OnlyClasses
from limbeck.types import Signals

LOGITS = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])


def test_both_are_cut():
    ours, theirs = OnlyClasses(classes=[2, 0])(Signals(LOGITS), Signals(LOGITS + 1))
    assert ours.logits.tolist() == [[3, 1], [7, 5]]
    assert theirs.logits.tolist() == [[4, 2], [8, 6]]


def test_a_specialist_keeps_its_own_outputs():
    special = torch.tensor([[9.0, 8.0]])
    ours, theirs = OnlyClasses(classes=[3, 1])(Signals(LOGITS[:1]), Signals(special))
    assert ours.logits.tolist() == [[4, 2]]
    assert theirs.logits is special
    assert OnlyClasses(classes=[1, 0])(Signals(special), Signals(special))[0].logits.tolist() == [[8, 9]]


def test_tokens():
    ours, theirs = OnlyClasses(classes=[2, 0])(Signals(LOGITS.unsqueeze(1)), Signals(LOGITS[:, :2].unsqueeze(1)))
    assert ours.logits.tolist() == [[[3, 1]], [[7, 5]]]
    assert theirs.logits.tolist() == [[[1, 2]], [[5, 6]]]


def test_probabilities_are_among_these_classes():
    cut = OnlyClasses(classes=[1, 3])
    other = LOGITS.clone()
    other[:, [0, 2]] = 50.0
    assert KD()(*cut(Signals(other), Signals(LOGITS))).tolist() == [0, 0]


def test_the_gradient_reaches_these_logits_only():
    student = LOGITS.clone().requires_grad_()
    KD()(*OnlyClasses(classes=[0, 3])(Signals(student), Signals(torch.zeros(2, 4)))).sum().backward()
    assert student.grad is not None
    assert student.grad.ne(0).tolist() == [[True, False, False, True]] * 2


def test_other_signals_stay():
    said = Signals(LOGITS, {"a": LOGITS}, {"index": torch.arange(2)})
    ours, _ = OnlyClasses(classes=[0, 1])(said, Signals(LOGITS))
    assert ours.features is said.features
    assert ours.extra is said.extra
    assert said.logits is LOGITS


def test_mistakes():
    assert list(OnlyClasses().classes) == [0, 1]
    for wrong in ([1], [2, 2]):
        with pytest.raises(LimbeckError, match=r"^only_classes needs two or more different classes, found \["):
            OnlyClasses(classes=wrong)
    with pytest.raises(ValueError, match=r"^OnlyClasses\.classes\[0\] must be >= 0, got -1$"):
        OnlyClasses(classes=[-1, 1])
    cut = OnlyClasses(classes=[0, 5])
    with pytest.raises(ShapeMismatch, match=r"^only_classes: the student has 4 outputs, expected 6 or more\. Mend `classes`\.$"):
        cut(Signals(LOGITS), Signals(torch.zeros(2, 6)))
    with pytest.raises(ShapeMismatch, match=r"^only_classes: the teacher has 4 outputs, expected 6 or more, or 2 for these alone\. Mend"):
        cut(Signals(torch.zeros(2, 6)), Signals(LOGITS))
    with pytest.raises(SignalMissing, match=r"^only_classes changes logits, and the teacher gave none; remove it from this term\.$"):
        cut(Signals(torch.zeros(2, 6)), Signals())
