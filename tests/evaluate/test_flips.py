"""What a student gained and forgot."""

from __future__ import annotations

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.evaluate.flips import flip_report, flips


def test_by_hand():
    """One example for every combination of initial student, student and teacher being right, and two in which all are."""
    initial = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    student = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1, 1, 1])
    teacher = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 1, 1])
    found = flip_report(initial, student, teacher, torch.ones(10, dtype=torch.long))
    assert found == {
        "accuracy_change": 0.0,
        "knowledge_gain": 0.2,
        "knowledge_loss": 0.2,
        "positive_flips": 0.2,
        "negative_flips": 0.2,
        "positive_flips_change": 0.0,
        "negative_flips_change": 0.0,
    }


def test_the_directions():
    labels = torch.zeros(4, dtype=torch.long)
    initial, student, teacher = torch.tensor([1, 1, 1, 0]), torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    positive, negative = flips(initial, student, labels)
    assert positive.tolist() == [True, True, False, False]
    assert negative.tolist() == [False, False, False, True]
    assert flip_report(initial, student, teacher, labels) == {
        "accuracy_change": 0.25,
        "knowledge_gain": 0.5,
        "knowledge_loss": 0.25,
        "positive_flips": 0.0,
        "negative_flips": 0.25,
        "positive_flips_change": -0.25,
        "negative_flips_change": 0.0,
    }


def test_a_student_that_stayed_the_same():
    torch.manual_seed(0)
    initial, teacher, labels = torch.randint(3, (3, 50)).unbind()
    found = flip_report(initial, initial, teacher, labels)
    nothing = ("accuracy_change", "knowledge_gain", "knowledge_loss", "positive_flips_change", "negative_flips_change")
    assert [found[name] for name in nothing] == [0.0] * 5
    right = [(classes == labels).double().mean().item() for classes in (initial, teacher)]
    assert found["positive_flips"] - found["negative_flips"] == pytest.approx(right[1] - right[0])


def test_golden():
    check_parity("../teachers/gkt_dp__flip_metrics")
