"""How far two sets of vectors are apart in their inner products."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .grams import product_gap
from .precision import without_autocast


def gram_gap(a: Tensor, b: Tensor) -> Tensor:
    r"""Squared Frobenius distance :math:`\|A A^T - B B^T\|_F^2` of the inner products between rows, exactly 0 where A equals B.

    No matrix is formed that is larger than the smaller of `rows` by `rows` and `inner` by `inner`.

    Args:
        a: `(..., rows, inner)`.
        b: likewise, of as many rows; `inner` may be another.

    Returns:
        `(...)`.
    """
    # Columns of zeros add nothing to inner products.
    inner = max(a.shape[-1], b.shape[-1])
    a, b = (x if x.shape[-1] == inner else F.pad(x, (0, inner - x.shape[-1])) for x in (a, b))
    if a.shape[-2] > inner:  # mutate: equivalent comparison (both ways cost the same there)
        return product_gap(a, a, b, b)
    with without_autocast(a):
        # A A^T - B B^T is the symmetric part of (A - B)(A + B)^T: one product, of differences.
        half = (a - b) @ (a + b).mT
    return (half + half.mT).square().sum((-2, -1)) / 4
