"""Optimal transport with entropy, by Sinkhorn's alternating normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import widen, without_autocast


def transport_plan(cost: Tensor, *, epsilon: float, rounds: int) -> Tensor:
    r"""The plan that moves a unit from every row to the columns, each of which receives a unit.

    :math:`\exp(-cost / \epsilon)`, alternately divided by the sums of its rows and of its columns. The columns come last, so
    their sums are exact; those of the rows are as far as the rounds brought them. Only the scalings of rows and columns change from round
    to round, so that `rounds` costs time but no memory of the size of the cost. The gradient passes through all rounds.

    Args:
        cost: `(rows, columns)`, as many of each; it should stay below `40 * epsilon` in float32.
        epsilon: weight of the entropy; the smaller, the sharper the plan.
        rounds: how often both are normalised.

    Returns:
        The plan, of the shape of the cost.
    """
    cost = widen(cost)
    kernel = (-cost / epsilon).exp()
    columns = torch.ones_like(cost[0])
    rows = columns
    with without_autocast(cost):
        for _ in range(rounds):
            rows = 1 / (kernel @ columns)
            columns = 1 / (kernel.mT @ rows)
    return rows[:, None] * kernel * columns
