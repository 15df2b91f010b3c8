"""Agreement of student and teacher."""

import math

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.evaluate.agreement import class_agreement, label_agreement


def test_same_logits_agree_fully():
    logits = torch.randn(20, 4)
    got = class_agreement(logits, logits + 3, torch.randint(0, 4, (20,)))  # a shift changes no prediction
    assert got["top1"] == 1.0
    assert got["kl"] == pytest.approx(0, abs=1e-9)
    assert label_agreement(logits, logits) == {"top1": 1.0, "kl": 0.0}


def test_by_hand():
    teacher = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    got = class_agreement(student, teacher, torch.tensor([0, 1, 1]))
    assert got["top1"] == pytest.approx(2 / 3)
    assert got["top1_teacher_right"] == 0.5
    assert got["top1_teacher_wrong"] == 1.0
    p, q = torch.sigmoid(torch.tensor(9.0)).item(), torch.sigmoid(torch.tensor(1.0)).item()

    def kl(p, q):
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    assert got["kl"] == pytest.approx((2 * kl(p, q) + kl(1 - p, q)) / 3, rel=1e-5)
    binary = label_agreement(torch.tensor([[1.0]]), torch.tensor([[9.0]]))
    assert binary["kl"] == pytest.approx(kl(p, q), rel=1e-5)


def test_a_teacher_that_is_never_wrong():
    logits = torch.eye(3)
    assert class_agreement(logits, logits, torch.arange(3))["top1_teacher_wrong"] is None


def test_other_classes_are_an_error():
    with pytest.raises(ShapeMismatch, match=r"student \(2, 3\), teacher \(2, 4\)"):
        class_agreement(torch.zeros(2, 3), torch.zeros(2, 4))


def test_extreme_logits_stay_finite():
    got = label_agreement(torch.tensor([[1e4]]), torch.tensor([[-1e4]]))
    assert got["kl"] == pytest.approx(1e4)
