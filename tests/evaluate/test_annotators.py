"""Krippendorff's alpha: the published example, chance, missing labels, messages."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import DataError, ShapeMismatch
from limbeck.evaluate.annotators import krippendorff_alpha
from limbeck.types import IGNORE

X = IGNORE


def test_the_example_of_the_paper():
    """Four observers, twelve units, missing values: alpha 0.743 for nominal data."""
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
        [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X],
    ]
    assert krippendorff_alpha(torch.tensor(rows)) == pytest.approx(0.743, abs=5e-4)


def test_two_annotators_by_hand():
    """Of four examples one differs: D_o = 1/4; five 0 and three 1 among eight: D_e = 30/56."""
    assert krippendorff_alpha(torch.tensor([[0, 0, 1, 0], [0, 0, 1, 1]])) == pytest.approx(1 - 0.25 / (30 / 56))


def test_limits():
    assert krippendorff_alpha(torch.tensor([[0, 1, 2], [0, 1, 2]])) == 1
    assert krippendorff_alpha(torch.tensor([[3, 3], [3, 3]])) == 1
    assert krippendorff_alpha(torch.tensor([[0, 1], [1, 0]])) == pytest.approx(-0.5)
    draws = torch.randint(3, (2, 20_000), generator=torch.Generator().manual_seed(0))
    assert abs(krippendorff_alpha(draws)) < 0.02
    assert krippendorff_alpha(torch.tensor([[0, 1, 2, X], [0, 1, X, 7]])) == 1  # single labels do not count


def test_messages():
    with pytest.raises(DataError, match=r"alpha compares annotators, and no example has labels of two of them\."):
        krippendorff_alpha(torch.tensor([[0, X], [X, 1]]))
    with pytest.raises(ShapeMismatch, match=r"alpha takes class indices \(annotators, examples\), found torch\.float32 \(2, 2\)\."):
        krippendorff_alpha(torch.zeros(2, 2))
    with pytest.raises(ShapeMismatch, match=r"found torch\.int64 \(3,\)"):
        krippendorff_alpha(torch.tensor([0, 1, 2]))


def test_agreement_of_student_teacher_and_labels():
    from limbeck.tasks.classification import Classification

    labels = torch.tensor([0, 1, 2, -100])
    student, teacher = (torch.nn.functional.one_hot(torch.tensor(found), 3).float() for found in ([0, 1, 1, 2], [0, 1, 2, 2]))
    found = Classification().agreement(student, teacher, labels)
    assert found is not None
    assert found["alpha"] == krippendorff_alpha(torch.tensor([[0, 1, 1, 2], [0, 1, 2, 2], [0, 1, 2, -100]]))
    assert 0.5 < found["alpha"] < 1
