"""Gaps between groups, by hand."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.evaluate.fairness import accuracy_gap, equalised_odds_gap, group_accuracy, group_report

LABELS = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
GROUPS = torch.tensor([0, 0, 0, 0, 3, 3, 3, 3])
GUESS = torch.tensor([0, 0, 1, 0, 1, 1, 1, 1])


def test_by_hand():
    assert group_accuracy(GUESS, LABELS, GROUPS) == {0: 0.75, 3: 0.5}
    assert accuracy_gap(GUESS, LABELS, GROUPS) == 0.25
    # True positive rate 1/2 and 1, false positive rate 0 and 1.
    assert equalised_odds_gap(GUESS, LABELS, GROUPS) == 1.0
    assert equalised_odds_gap(torch.tensor([0, 0, 1, 0, 0, 0, 1, 1]), LABELS, GROUPS) == 0.5
    assert group_report(GUESS, LABELS, GROUPS) == {"accuracy_gap": 0.25, "equalised_odds_gap": 1.0, "worst_accuracy": 0.5}


def test_no_gap():
    assert group_report(LABELS, LABELS, GROUPS) == {"accuracy_gap": 0, "equalised_odds_gap": 0, "worst_accuracy": 1}
    alone = torch.zeros(8, dtype=torch.int64)
    assert group_report(GUESS, LABELS, alone)["equalised_odds_gap"] == 0


def test_a_group_without_a_class_says_nothing_of_it():
    labels, groups = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    assert equalised_odds_gap(torch.tensor([0, 0, 0]), labels, groups) == 0


def test_shapes():
    with pytest.raises(ShapeMismatch, match=r"answers, labels and groups need one value an example each, found \(2,\), \(3,\), \(3,\)\."):
        accuracy_gap(torch.zeros(2), torch.zeros(3), torch.zeros(3))
