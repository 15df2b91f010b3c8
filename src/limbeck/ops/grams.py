"""Distances between products of thin matrices, without forming the products."""

from __future__ import annotations

from torch import Tensor

from .precision import without_autocast


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
