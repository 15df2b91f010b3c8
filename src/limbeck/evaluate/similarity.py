r"""Similarity of representations: linear centred kernel alignment.

.. math:: CKA(X, Y) = \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F \, \|Y^\top Y\|_F}

for features :math:`X, Y` of the same examples, centred over them. It is 1 for features that are equal up to rotation and scale.

Reference: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, arXiv:1905.00414, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ShapeMismatch


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear CKA of two sets of features, in float64; 0 where either is constant.

    Works on the products of features or of examples, whichever are fewer.

    Args:
        first: `(examples, ...)`; all but the first dimension are one vector.
        second: the same examples, any width.

    Raises:
        ShapeMismatch: where the numbers of examples differ.
    """
    if len(first) != len(second):
        raise ShapeMismatch(f"CKA compares features of the same examples, found {len(first)} and {len(second)} of them.")
    x, y = _centred(first), _centred(second)
    if len(x) <= max(x.shape[1], y.shape[1]):
        gram_x, gram_y = x @ x.T, y @ y.T
        return _ratio((gram_x * gram_y).sum(), gram_x.norm(), gram_y.norm())
    return _ratio((x.T @ y).square().sum(), (x.T @ x).norm(), (y.T @ y).norm())


def cka_matrix(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[list[float]]:
    """Linear CKA of every student feature (rows) with every teacher feature (columns)."""
    return [[linear_cka(one, other) for other in teacher] for one in student]


class StreamedCKA:
    """Linear CKA over batches, equal to that of all examples at once; memory grows with the squares of the widths only.

    Args:
        first_width: number of values of one example in the first features.
        second_width: the same of the second ones.
    """

    def __init__(self, first_width: int, second_width: int) -> None:
        self.count = 0
        self.means = [torch.zeros(width, dtype=torch.float64) for width in (first_width, second_width)]
        widths = ((first_width, second_width), (first_width, first_width), (second_width, second_width))
        self.products = [torch.zeros(shape, dtype=torch.float64) for shape in widths]

    def update(self, first: Tensor, second: Tensor) -> None:
        """Adds a batch, `(examples, ...)` each."""
        if len(first) != len(second):
            raise ShapeMismatch(f"CKA compares features of the same examples, found {len(first)} and {len(second)} of them.")
        batch = len(first)
        if batch == 0:
            return
        flat = [features.detach().flatten(1).double().cpu() for features in (first, second)]
        means = [features.mean(0) for features in flat]
        x, y = (features - mean for features, mean in zip(flat, means, strict=True))
        # Moments of two sets are merged by the difference of their means, so that large means do not cancel.
        dx, dy = (new - old for new, old in zip(means, self.means, strict=True))
        factor = self.count * batch / (self.count + batch)
        for product, (a, b), (da, db) in zip(self.products, ((x, y), (x, x), (y, y)), ((dx, dy), (dx, dx), (dy, dy)), strict=True):
            product.add_(a.T @ b + factor * torch.outer(da, db))
        self.count += batch
        for mean, difference in zip(self.means, (dx, dy), strict=True):
            mean.add_(difference * (batch / self.count))

    def compute(self) -> float:
        """CKA of all that was added; 0 where either side is constant."""
        cross, first, second = self.products
        return _ratio(cross.square().sum(), first.norm(), second.norm())


def _centred(features: Tensor) -> Tensor:
    flat = features.detach().flatten(1).double()
    return flat - flat.mean(0)


def _ratio(product: Tensor, first: Tensor, second: Tensor) -> float:
    scale = (first * second).item()
    return min(product.item() / scale, 1.0) if scale > 0 else 0.0
