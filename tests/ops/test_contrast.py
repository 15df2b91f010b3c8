"""Noise contrast: value by hand, which negatives count, extremes."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.contrast import noise_contrast


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_value_by_hand(floor):
    """Ratios 3, 1 and 0.5; two negatives among eight examples: noise 1/4."""
    scores = torch.tensor([[3.0, 1.0, 0.5], [1.0, 2.0, 2.0]], dtype=torch.float64).log()
    got = noise_contrast(scores, None, examples=8, floor=floor)
    for i, (p, a, b) in enumerate([(3.0, 1.0, 0.5), (1.0, 2.0, 2.0)]):
        expected = -math.log(p / (p + 0.25 + floor)) - math.log(0.25 / (a + 0.25 + floor)) - math.log(0.25 / (b + 0.25 + floor))
        assert got[i].item() == pytest.approx(expected, rel=1e-12)


def test_negatives_that_count_stand_for_the_others():
    scores = torch.randn(3, 5, dtype=torch.float64)
    counted = torch.tensor([[True] * 4, [True, False, False, True], [False] * 4])
    got = noise_contrast(scores, counted, examples=9, floor=0.0)
    full = noise_contrast(scores, None, examples=9, floor=0.0)
    noise = 4 / 9
    positive = -(scores[:, 0].exp() / (scores[:, 0].exp() + noise)).log()
    torch.testing.assert_close(got[0], full[0])
    terms = -(noise / (scores[1, 1:].exp() + noise)).log()
    torch.testing.assert_close(got[1], positive[1] + 4 * (terms[0] + terms[3]) / 2)
    torch.testing.assert_close(got[2], positive[2])


def test_both_directions_at_once():
    scores = torch.randn(2, 3, 5)
    counted = torch.rand(3, 4) < 0.5
    got = noise_contrast(scores, counted, examples=9, floor=1e-7)
    torch.testing.assert_close(got, torch.stack([noise_contrast(x, counted, examples=9, floor=1e-7) for x in scores]))


def test_extremes_are_finite():
    scores = torch.tensor([[-1e4, 1e4, 0.0]], requires_grad=True)
    value = noise_contrast(scores, None, examples=9, floor=0.0)
    value.sum().backward()
    assert value.item() == pytest.approx(2e4, rel=1e-3)
    assert scores.grad.isfinite().all()
