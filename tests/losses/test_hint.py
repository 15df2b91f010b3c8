"""FitNets' hint: value by hand, golden numbers."""

from __future__ import annotations

import pytest
import torch
from tests.losses.padded import check_padding

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.hint import Hint
from limbeck.types import Signals


def test_value_by_hand():
    student, teacher = torch.zeros(2, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]], [[[0.0, 2.0]]]])
    assert Hint()(Signals.of(student), Signals.of(teacher)).tolist() == [5.0, 2.0]


def test_gradient_is_twice_the_difference_over_the_elements(draw):
    student, teacher = draw(2, 3, 2, 2)
    student.requires_grad_()
    Hint()(Signals.of(student), Signals.of(teacher)).sum().backward()
    torch.testing.assert_close(student.grad, 2 * (student.detach() - teacher) / student[0].numel())


def test_mistakes():
    with pytest.raises(SignalMissing, match=r"one feature was expected, found 0"):
        Hint()(Signals(torch.zeros(2, 3)), Signals(torch.zeros(2, 3)))
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3\] and teacher \[2, 4\].*let an adapter map"):
        Hint()(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 4)))


def test_needs():
    needs = Hint().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "full",
        False,
    )


def test_golden(check_golden):
    check_golden("hint", lambda h: (Hint(), h["weight"]))


def test_padding(draw):
    for loss in (Hint(),):
        check_padding(loss, *draw(2, 4, 6))
