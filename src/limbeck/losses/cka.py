r"""Centred kernel alignment: the examples of a batch lie to one another alike.

.. math:: \sum_l \left[ 1 - \frac{\langle H K^s_l H, H K^t_l H \rangle}{\|H K^s_l H\|_F \, \|H K^t_l H\|_F} \right], \qquad
          H = I - \frac{1}{b} 1 1^T

where K is the kernel of the b examples of a batch, each layer of an example as one vector: their inner products (`kernel: linear`) or
:math:`\exp(-\|x_i - x_j\|^2 / (2 \sigma^2))` (`kernel: rbf`). The bracket is computed as half the squared distance of the two centred
kernels, each divided by its length, which is the same number and exactly 0 at equality.

The linear value does not change with a rotation, a shift or the scale of either feature. The width of the Gaussian is `bandwidth` times
the root of the mean squared distance of the examples, where Kornblith et al. take their median, which needs all distances at once.

When to use: student and teacher differ in width, depth or kind, so that no adapter is wanted, and batches are large (64 and more); the
value for small batches is biased upwards in similarity. Beside a loss on logits.

Cost: linear of order b^2 (c + d) for features of c and d dimensions, or b (c + d)^2 where that is less, and no larger memory than the
features; rbf of order b^2 (c + d), with `chunk` times b numbers held at once. No parameters.

Reference: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, arXiv:1905.00414, equations 2 to 4; as a
loss: Saha et al., "Distilling Representational Similarity using Centered Kernel Alignment (CKA)", BMVC 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.centred import gaussian_misalignment, linear_misalignment
from ..types import Needs, Positive, PositiveInt, Signals
from .base import Loss, pairs


@final
@dataclass(eq=False, repr=False, kw_only=True)
class CKA(Loss):
    """One less the similarity of two representations of the batch, over one or more layers; shapes need not agree."""

    kernel: Literal["linear", "rbf"] = "linear"
    """Inner products, or a Gaussian of the distances, which stresses the near ones."""
    bandwidth: Positive = 1.0
    """Width of the Gaussian, in units of the spread of the batch; only for `rbf`."""
    chunk: PositiveInt = 512
    """Number of rows of the Gaussian kernels that are held in memory at once; it does not change the value."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="any", global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        layers = pairs(student, teacher)  # mutate: equivalent swapped (symmetric)
        return torch.stack([self._layer(s.flatten(1), t.flatten(1)) for s, t in layers]).sum()  # mutate: equivalent swapped (symmetric)

    def _layer(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.kernel == "linear":
            return linear_misalignment(student, teacher)  # mutate: equivalent swapped (symmetric)
        return gaussian_misalignment(student, teacher, bandwidth=self.bandwidth, chunk=self.chunk)  # mutate: equivalent swapped (symmetric)
