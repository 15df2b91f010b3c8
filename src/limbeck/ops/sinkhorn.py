"""Optimal transport with entropy, by Sinkhorn's alternating normalisation."""

from __future__ import annotations

from typing import Any

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
    rows, columns = _Scalings.apply(kernel, rounds)  # pyright: ignore[reportGeneralTypeIssues]
    return rows[:, None] * kernel * columns


def _scalings(kernel: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """The scalings of the rows after every round, `(rounds, rows)`, and of the columns before and after, `(rounds + 1, columns)`."""
    rows: list[Tensor] = []
    columns = [torch.ones_like(kernel[0])]
    with without_autocast(kernel):
        for _ in range(rounds):
            rows.append((kernel @ columns[-1]).reciprocal())
            columns.append((kernel.mT @ rows[-1]).reciprocal())
    return torch.stack(rows), torch.stack(columns)


class _Scalings(torch.autograd.Function):
    """The last scalings. Backwards only vectors pass through the rounds; the gradient of the kernel is one product in the end."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, rounds: int) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, columns = _scalings(kernel, rounds)
        ctx.save_for_backward(kernel, rows, columns)
        # Nobody who changes them in place shall change what is kept.
        return rows[-1].clone(), columns[-1].clone()  # mutate: equivalent unwrapped (nobody does)

    @staticmethod
    def backward(ctx: Any, of_rows: Tensor, of_columns: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        kernel, rows, columns = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives
            rows, columns = _scalings(kernel, len(rows))
        # Those of the sums, whose reciprocals the scalings are.
        row_sums: list[Tensor] = []
        column_sums: list[Tensor] = []
        row_slopes, column_slopes = -rows.square(), -columns.square()
        with without_autocast(kernel):
            for i in reversed(range(len(rows))):
                column_sums.append(of_columns * column_slopes[i + 1])
                of_rows = torch.addmv(of_rows, kernel, column_sums[-1]) if i == len(rows) - 1 else kernel @ column_sums[-1]
                row_sums.append(of_rows * row_slopes[i])
                of_columns = kernel.mT @ row_sums[-1]
            by_rows = torch.stack(row_sums[::-1]).mT @ columns[:-1]
            return by_rows + rows.mT @ torch.stack(column_sums[::-1]), None
