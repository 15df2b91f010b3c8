"""Hierarchical context loss: value by hand, an oracle by loops, levels that a small map skips, golden numbers."""

from __future__ import annotations

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.hcl import HCL, context_gap
from limbeck.types import Signals


def test_value_by_hand():
    """Differences 1, 3 over 5, 7: mean square 21, mean 4; a map of two rows has the mean at weight 1/2."""
    student = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert HCL()(Signals.of(student), Signals.of(torch.zeros_like(student))).tolist() == pytest.approx([(21 + 16 / 2) / 1.5])


def oracle(gap, levels):
    """One example: `levels` pairs a number of regions with a weight; the sides are multiples of it."""
    total, weights = 0.0, 0.0
    for regions, weight in levels:
        step = gap.shape[-1] // regions
        squares = []
        for channel in gap:
            for i in range(regions):
                for j in range(regions):
                    part = [channel[i * step + a, j * step + b].item() for a in range(step) for b in range(step)]
                    squares.append((sum(part) / len(part)) ** 2)
        total += weight * sum(squares) / len(squares)
        weights += weight
    return total / weights


@pytest.mark.parametrize(
    ("side", "levels"),
    [
        (8, [(8, 1), (4, 1 / 2), (2, 1 / 4), (1, 1 / 8)]),
        (4, [(4, 1), (2, 1 / 2), (1, 1 / 4)]),
        (2, [(2, 1), (1, 1 / 2)]),
        (1, [(1, 1)]),
    ],
)
def test_oracle(draw, side, levels):
    s, t = draw(2, 3, side, side)
    got = context_gap(s, t)
    assert got.shape == (2,)
    for i in range(2):
        assert got[i].item() == pytest.approx(oracle(s[i] - t[i], levels), rel=1e-9)


def test_the_height_alone_says_which_levels_there_are(draw):
    """Two rows of eight: the regions of 4x4 and 2x2 are left out, as in the authors' code."""
    s, t = draw(2, 3, 2, 8)
    gap = s - t
    expected = (gap.square().mean((1, 2, 3)) + gap.mean((2, 3)).square().mean(1) / 2) / 1.5
    torch.testing.assert_close(context_gap(s, t), expected)


def test_layers_add_up_and_tokens_are_grids(draw):
    (a, b), (c, d) = draw(2, 3, 4, 4, seed=1), draw(2, 3, 8, 8, seed=2)
    both = HCL()(Signals.of(a, c), Signals.of(b, d))
    torch.testing.assert_close(both, context_gap(a, b) + context_gap(c, d))
    tokens = [torch.cat([7 * x[:, :, 0, :1], x.flatten(2)], 2).mT for x in (a, b)]  # a class token before the grid
    torch.testing.assert_close(context_gap(*tokens), context_gap(a, b))
    torch.testing.assert_close(context_gap(a[:, :, 0, 0], b[:, :, 0, 0]), (a - b)[:, :, 0, 0].square().mean(1))


def test_needs_and_mistakes():
    needs = HCL().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "full",
        False,
    )
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3, 4, 4\] and teacher \[2, 3, 2, 2\] must have the same shape"):
        HCL()(Signals.of(torch.zeros(2, 3, 4, 4)), Signals.of(torch.zeros(2, 3, 2, 2)))


def test_golden():
    check_parity("hcl")
