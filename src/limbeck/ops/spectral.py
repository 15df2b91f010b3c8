"""Singular vectors as functions of their matrix: signs fixed, gradients finite where values coincide."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .geometry import unit
from .precision import widen, without_autocast


def singular_directions(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    r"""The largest singular values and the right singular vectors that belong to them.

    A singular vector is only given up to its sign. Here it points to the side on which the rows lie: the sum of their projections on it
    is not negative (after Bro et al., "Resolving the sign ambiguity in the singular value decomposition", 2008). Its gradient is that
    of first-order perturbation theory, in which pairs of equal singular values, which have no directions of their own, take no part.

    Args:
        x: `(..., rows, columns)`.
        count: number of vectors; at most the smaller of `rows` and `columns` are given.

    Returns:
        Values `(..., count)`, without gradient, and unit vectors `(..., columns, count)`; where a value is 0, so is the vector.
    """
    x = widen(x)
    # In units of the largest entry, so that the squares stay in range; directions do not depend on the unit.
    scale = x.detach().abs().amax((-2, -1), keepdim=True)
    x = x / scale.masked_fill(scale == 0, math.inf)
    with without_autocast(x):
        left, values, right = _decompose(x.detach())
        top, top_left, top_right = values[..., None, :count], left[..., :count], right[..., :count]
        change = x - x.detach()  # zero, and carries the gradient
        mixed = left.mT @ change @ right
        gaps = top.square() - values[..., :, None].square()
        turn = _divide(mixed[..., :count] * values[..., :, None] + mixed.mT[..., :count] * top, gaps, values[..., :1, None].square())
        away = change.mT @ top_left
        vectors = top_right + right @ turn + _divide(away - right @ (right.mT @ away), top, values[..., :1, None])
        towards = x.sum(-2, keepdim=True) @ top_right  # mutate: equivalent function (the mean has the sign of the sum)
        vectors = torch.where(towards < 0, -vectors, vectors)  # mutate: equivalent comparison (either sign is right at 0)
    return values[..., :count] * scale[..., 0], vectors


def _decompose(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left vectors, values and right vectors, from the inner products of the shorter side; largest first."""
    wide = x.shape[-2] < x.shape[-1]
    y = x if wide else x.mT
    short = torch.linalg.eigh(y @ y.mT).eigenvectors.flip(-1)
    long = y.mT @ short
    values = torch.linalg.vector_norm(long, dim=-2)
    exists = values > _SMALLEST * values[..., :1]
    short, long = short * exists[..., None, :], unit(long, dim=-2) * exists[..., None, :]
    values = values * exists
    return (short, values, long) if wide else (long, values, short)


_SMALLEST = 1e-5
"""Singular values below this part of the largest count as 0, and differences of squares below it as ties."""


def _divide(numerator: Tensor, denominator: Tensor, unit_of: Tensor) -> Tensor:
    tied = denominator.abs() <= _SMALLEST * unit_of
    return numerator / denominator.masked_fill(tied, math.inf)
