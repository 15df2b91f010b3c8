"""Margin MSE: value by hand, what it does not see, needs."""

from __future__ import annotations

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.margin_mse import MarginMSE, margin_gap
from limbeck.types import Signals


def test_value_by_hand():
    """Margins of the student 1 and 3, of the teacher 4 and 1."""
    student, teacher = torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([[5.0, 1.0, 4.0]])
    got = MarginMSE()(Signals(student), Signals(teacher), torch.tensor([0]))
    assert got.item() == pytest.approx((9 + 4) / 2)
    second = MarginMSE()(Signals(student), Signals(teacher), torch.tensor([1]))
    assert second.item() == pytest.approx(((-1 + 4) ** 2 + (2 + 3) ** 2) / 2)


def test_the_level_is_free(draw):
    student, teacher = draw(4, 5)
    labels = torch.tensor([0, 1, 2, 4])
    expected = MarginMSE()(Signals(student), Signals(teacher), labels)
    torch.testing.assert_close(MarginMSE()(Signals(student + 3), Signals(teacher - 7), labels), expected)


def test_an_unlabelled_example_costs_nothing(draw):
    student, teacher = draw(3, 5)
    student.requires_grad_()
    value = margin_gap(student, teacher, torch.tensor([1, -100, 2]))
    assert value[1].item() == 0
    (found,) = torch.autograd.grad(value.sum(), student)
    assert not found[1].any()
    assert found[0].any()


def test_one_candidate_and_tokens(draw):
    (one,) = draw(3, 1, count=1)
    assert margin_gap(one, one + 1, torch.zeros(3, dtype=torch.int64)).tolist() == [0, 0, 0]
    student, teacher = draw(2, 3, 5)
    got = margin_gap(student, teacher, torch.ones(2, 3, dtype=torch.int64))
    assert got.shape == (2, 3)
    torch.testing.assert_close(got[1], margin_gap(student[1], teacher[1], torch.ones(3, dtype=torch.int64)))


def test_half_precision_is_widened():
    student, teacher = torch.tensor([[60000.0, -60000.0]]).half(), torch.zeros(1, 2).half()
    labels = torch.tensor([0])
    assert margin_gap(student, teacher, labels).item() == pytest.approx(119968.0**2, rel=1e-2)
    assert margin_gap(teacher, student, labels).dtype == torch.float32


def test_user_mistakes():
    with pytest.raises(ShapeMismatch, match=r"student \[4, 2\] and teacher \[4, 3\] must have the same shape"):
        MarginMSE()(Signals(torch.zeros(4, 2)), Signals(torch.zeros(4, 3)), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(SignalMissing, match="this loss needs labels"):
        MarginMSE()(Signals(torch.zeros(4, 2)), Signals(torch.zeros(4, 2)))


def test_needs():
    needs = MarginMSE().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, True, True, "none", ("class",))


def test_golden():
    check_parity("st_margin_mse")
