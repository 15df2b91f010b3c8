r"""Neuron selectivity transfer: channels are active where the teacher's are.

.. math:: \sum_l \frac{1}{C_t^2} \sum_{ij} k(t_i, t_j) + \frac{1}{C_s^2} \sum_{ij} k(s_i, s_j) - \frac{2}{C_t C_s} \sum_{ij} k(t_i, s_j)

the squared maximum mean discrepancy, where :math:`s_i`, :math:`t_j` are the channels of layer l as vectors over the positions, of length
1, and the kernel is :math:`x^T y` (`linear`), :math:`(x^T y)^2` (`polynomial`, what the paper recommends) or
:math:`\exp(-\|x - y\|_2^2 / 2\sigma^2)` (`gaussian`) with :math:`\sigma^2` the mean of :math:`\|t_i - s_j\|_2^2`. The paper's factor 1/2 is
left to the weight.

The first two are computed as the squared distance of the means of :math:`x` and of :math:`x x^T`, which is exactly 0 at equality and
needs no pair of channels.

When to use: both are convolutional; where each channel is active is compared as a whole, so that their number is free and none has to
stand for another.

Cost: of order b p C min(C, p) for p positions, linear b p C, gaussian b p C^2 and in memory b C^2; no parameters.

Reference: Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017, arXiv:1707.01219, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.geometry import unit
from ..ops.gram_gap import gram_gap
from ..ops.layouts import as_positions
from ..ops.precision import without_autocast
from ..types import Needs, Signals
from .base import Loss, pairs

Kernel = Literal["polynomial", "linear", "gaussian"]


def selectivity_gap(student: Tensor, teacher: Tensor, *, kernel: Kernel) -> Tensor:
    """Squared maximum mean discrepancy of the channels, two features of as many positions to `(batch,)`.

    Raises:
        ShapeMismatch: where the numbers of positions differ.
    """
    ours, theirs = unit(as_positions(student)), unit(as_positions(teacher))
    if ours.shape[2] != theirs.shape[2]:
        raise ShapeMismatch(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} must have as many positions here; "
            "pick layers of one height and width or let an adapter resize the larger."
        )
    if kernel == "gaussian":
        return _gaussian_gap(ours, theirs)  # mutate: equivalent swapped (it is symmetric)
    if kernel == "linear":
        return (ours.mean(1) - theirs.mean(1)).square().sum(1)
    return gram_gap(*(x.mT / math.sqrt(x.shape[1]) for x in (ours, theirs)))


def _gaussian_gap(ours: Tensor, theirs: Tensor) -> Tensor:
    def distances(x: Tensor, y: Tensor) -> Tensor:
        squares = x.square().sum(2).unsqueeze(2) + y.square().sum(2).unsqueeze(1)
        with without_autocast(x):
            return squares - 2 * x @ y.mT

    cross = distances(theirs, ours)  # mutate: equivalent swapped (symmetric)
    width = 2 * cross.mean((1, 2), keepdim=True)
    width = width.masked_fill(width <= 0, math.inf)

    def mean(squares: Tensor) -> Tensor:
        # The ones that expm1 takes away cancel in the sum of the three means.
        return torch.expm1(-squares / width).mean((1, 2))

    return mean(distances(theirs, theirs)) + mean(distances(ours, ours)) - 2 * mean(cross)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class NST(Loss):
    """Matches where the channels are active, over one or more layers; channels may differ, positions must agree."""

    kernel: Kernel = "polynomial"
    """How alike two channels are: their inner product squared, as it is, or a Gaussian of their distance."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="space")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return torch.stack([selectivity_gap(*pair, kernel=self.kernel) for pair in pairs(student, teacher)]).sum(0)
