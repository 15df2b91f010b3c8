"""Inner products of rows, and distances between products of thin matrices without forming the products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .precision import without_autocast


def inner_products(x: Tensor) -> Tensor:
    """Inner products of all rows, `(..., rows, inner)` to `(..., rows, rows)`, in the precision of `x` also where autocast is on."""
    found: Tensor = _InnerProducts.apply(x)  # pyright: ignore[reportAssignmentType]
    return found


class _InnerProducts(torch.autograd.Function):
    """Knows that both factors are the same, so that the way back is one product and not two and their sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        with without_autocast(x):
            return x @ x.mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        with without_autocast(x):
            return (gradient + gradient.mT) @ x


def product_gap(u: Tensor, a: Tensor, v: Tensor, b: Tensor) -> Tensor:
    r"""Squared Frobenius distance :math:`\|U A^T - V B^T\|_F^2` of two products of thin matrices, all four `(..., rows, inner)`.

    With :math:`E = U - V` and :math:`D = A - B` it is
    :math:`\langle E^T E, A^T A\rangle + 2\langle E^T V, A^T D\rangle + \langle V^T V, D^T D\rangle`, which holds `inner` by `inner`
    numbers instead of `rows` by `rows`. Every part of it is made of differences, so that nothing cancels where the factors are
    close: it is exactly 0 where they are equal.

    Returns:
        `(...)`.
    """
    with without_autocast(u):
        e, d = u - v, a - b
        parts = (e.mT @ e) * (a.mT @ a) + 2 * (e.mT @ v) * (a.mT @ d) + (v.mT @ v) * (d.mT @ d)
        return parts.sum((-2, -1))
