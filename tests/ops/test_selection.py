"""Which examples are kept."""

from __future__ import annotations

import torch

from limbeck.ops.selection import highest


def test_highest_by_hand():
    scores = torch.tensor([0.5, -1.0, 3.0, 2.0, 0.0])
    assert highest(scores, ratio=0.4).tolist() == [2, 3]
    assert highest(scores, ratio=0.79).tolist() == [0, 2, 3]
    assert highest(scores, ratio=0.1).tolist() == []
    assert highest(scores, ratio=1.0).tolist() == [0, 1, 2, 3, 4]


def test_of_equal_scores_the_first_are_kept():
    assert highest(torch.zeros(100), ratio=0.5).tolist() == list(range(50))
