r"""Correlation congruence: the examples of a batch correlate as for the teacher.

.. math:: \frac{1}{b^2} \left\| K^s - K^t \right\|_F^2, \qquad
          K_{ij} = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} \langle x_i, x_j \rangle^p

for the b embeddings x of a batch, of length 1: the Taylor series of order P of the Gaussian kernel
:math:`e^{-\gamma \|x_i - x_j\|^2}`. With `kernel: bilinear`, K holds their inner products as they are.

torchdistill takes the norm instead of its square, and does not bring the embeddings to length 1, which the series assumes
(`variant: torchdistill`). What collections for CIFAR call "CC" is the loss `neighbour_product`.

When to use: embeddings of any two dimensions, with more weight on near examples than `sp` gives them.

Cost: of order b^2 (D + P) for b examples of D elements, in memory `chunk` b; no parameters.

Reference: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, arXiv:1904.01802, equations 6 to 11.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.geometry import gram, unit
from ..ops.slices import in_slices
from ..types import Needs, Positive, PositiveInt, Signals
from .base import Loss

Kernel = Literal["gaussian", "bilinear"]


def gaussian_series(products: Tensor, *, gamma: float, order: int) -> Tensor:
    """Taylor series of the Gaussian kernel between vectors of length 1, from their inner products."""
    series = torch.ones_like(products)
    for power in range(order, 0, -1):
        series = 1 + series * products * (2 * gamma / power)
    return math.exp(-2 * gamma) * series


def congruence_gap(
    student: Tensor, teacher: Tensor, *, kernel: Literal["gaussian", "bilinear"], gamma: float, order: int, chunk: int
) -> Tensor:
    """Frobenius norm of the difference of the correlations, two tensors `(batch, ...)` to a scalar.

    Args:
        student: one feature.
        teacher: likewise; only the batch must be the same.
        kernel: `"gaussian"`, as a series, or `"bilinear"`, inner products.
        gamma: sharpness of the Gaussian kernel.
        order: highest power of its series.
        chunk: number of examples whose correlations are held in memory at once.
    """

    def correlations(features: Tensor, rows: slice) -> Tensor:
        products = gram(features, rows)
        return products if kernel == "bilinear" else gaussian_series(products, gamma=gamma, order=order)

    def part(student: Tensor, teacher: Tensor, rows: slice) -> Tensor:
        return _norm(correlations(student, rows) - correlations(teacher, rows))

    return _norm(torch.stack(in_slices(part, student, teacher, size=len(student), chunk=chunk)))


def _norm(x: Tensor) -> Tensor:
    """The length of all of `x`, whose squares may exceed the range of its type."""
    largest = x.detach().abs().amax()  # mutate: equivalent unwrapped (the length does not depend on it)
    largest = largest.masked_fill(largest == 0, 1)  # mutate: equivalent constant (any scale of zeros)
    return largest * torch.linalg.vector_norm(x / largest)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class CC(Loss):
    """Compares the kernel matrices of the examples of a batch; shapes need not agree."""

    kernel: Kernel = "gaussian"
    """What measures the correlation of two examples."""
    gamma: Positive = 0.4
    """Sharpness of the Gaussian kernel."""
    order: PositiveInt = 2
    """Highest power P of its Taylor series."""
    variant: Literal["paper", "torchdistill"] = "paper"
    """The paper's formula, or that of torchdistill."""
    chunk: PositiveInt = 1024
    """Number of examples whose correlations are held in memory at once; it does not change the value."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any", global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        sides = [x.flatten(1) for x in (student.feature, teacher.feature)]
        if self.variant == "paper":
            sides = [unit(x) for x in sides]
        gap = congruence_gap(*sides, kernel=self.kernel, gamma=self.gamma, order=self.order, chunk=self.chunk)
        return (gap.square() if self.variant == "paper" else gap) / len(student.feature) ** 2
