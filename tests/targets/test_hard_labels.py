"""Hard labels: the class alone, at every temperature; what is unknown is left out."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import SignalMissing
from limbeck.losses.kd import KD
from limbeck.losses.soft_cross_entropy import SoftCrossEntropy
from limbeck.targets.hard_labels import HardLabels
from limbeck.types import Signals

TEACHER = Signals(torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]).log())
STUDENT = Signals(torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 8.0])
def test_the_class_alone(temperature: float) -> None:
    ours, theirs = HardLabels()(STUDENT, TEACHER)
    assert ours is STUDENT
    assert (theirs.logits / temperature).softmax(1).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert TEACHER.logits.exp()[0, 1].item() == pytest.approx(0.3)  # the original stays


def test_the_loss_is_the_cross_entropy_with_the_label() -> None:
    ours, theirs = HardLabels()(STUDENT, TEACHER)
    expected = torch.tensor([math.log(2), math.log(4)])
    torch.testing.assert_close(SoftCrossEntropy()(ours, theirs), expected)
    torch.testing.assert_close(KD(temperature=1.0)(ours, theirs), expected)


def test_what_the_teacher_is_not_sure_of_is_left_out() -> None:
    assert HardLabels().weights(Signals(), TEACHER, None).tolist() == [1, 1]
    assert HardLabels(sure=0.55).weights(Signals(), TEACHER, None).tolist() == [1, 0]
    half = Signals(torch.zeros(1, 2))
    assert HardLabels(sure=0.5).weights(Signals(), half, None).tolist() == [1]  # the limit itself is kept
    assert HardLabels(sure=0.51).weights(Signals(), half, None).dtype == torch.float32


def test_a_teacher_without_logits() -> None:
    for ask in (lambda: HardLabels()(STUDENT, Signals()), lambda: HardLabels().weights(STUDENT, Signals(), None)):
        with pytest.raises(SignalMissing, match="hard_labels reads the teacher's logits, and the teacher gave none"):
            ask()
