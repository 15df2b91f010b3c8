"""Shares of domains by the gap to a teacher."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.ops.mixture_shares import gap_shares

EVEN = torch.tensor([0.5, 0.5])


def test_by_hand():
    student, teacher = torch.tensor([2.0, 3.0]), torch.tensor([2.0, 1.5])
    one, two = math.exp(1), math.exp(2)
    found = gap_shares(student, teacher, EVEN, alpha=0.6)
    assert found.tolist() == pytest.approx([0.6 * one / (one + two) + 0.2, 0.6 * two / (one + two) + 0.2])
    again = gap_shares(student, teacher, torch.tensor([0.9, 0.1]), alpha=1.0)
    assert again.tolist() == pytest.approx([0.9 * one / (0.9 * one + 0.1 * two), 0.1 * two / (0.9 * one + 0.1 * two)])
    assert gap_shares(student, teacher, torch.tensor([0.9, 0.1]), alpha=0.0).tolist() == [0.5, 0.5]
    assert torch.isfinite(gap_shares(torch.tensor([900.0, 1.0]), torch.tensor([0.0, 1.0]), EVEN, alpha=0.5)).all()


def test_a_teacher_without_loss_and_precision():
    """The domain whose teacher is perfect takes all that follows the gap; shares are wide whatever the losses are."""
    found = gap_shares(torch.tensor([0.5, 1.0]), torch.tensor([0.0, 1.0]), EVEN, alpha=0.5)
    assert found.dtype == torch.float64
    assert found.tolist() == [0.75, 0.25]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9), st.floats(0.01, 1)), min_size=2, max_size=6), st.floats(0, 1))
def test_sum_floor_and_order(rows, alpha):
    student, teacher, before = torch.tensor(rows, dtype=torch.float64).T
    before = before / before.sum()
    found = gap_shares(student, teacher, before, alpha=alpha)
    assert found.sum().item() == pytest.approx(1)
    assert float(found.min()) >= (1 - alpha) / len(found) - 1e-12
    further = student.clone()
    further[0] += 0.5
    assert gap_shares(further, teacher, before, alpha=alpha)[0] >= found[0] - 1e-12
