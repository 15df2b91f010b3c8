r"""Inter-channel correlation: channels relate to each other as the teacher's do.

.. math:: \sum_l \frac{1}{c^2} \left\| G^s_l - G^t_l \right\|_F^2, \qquad G = F F^T

where F has a row for each of the c channels of layer l and a column for each position: :math:`G_{ij}` is the inner product of the
channels i and j. The paper's linear transform of the student (a 1x1 convolution) is the term's adapter; to have the one of the authors'
code, name it: `adapter: {kind: conv1x1, bias: false, batch_norm: true}`.

The authors' code divides every row of G by its length and the sum by c instead of :math:`c^2` (`variant: official`). Its value does not
depend on the level of the activations, and the weight of 2.5 that is quoted for CIFAR-100 belongs to it. Their code for ImageNet, and
torchdistill's, divides the mean over a batch by the number of its examples once more: a weight from there is to be divided by that.

When to use: convolutional models of much the same width, where which features occur together matters more than where they are. It needs
as many channels on both sides, else an adapter learns them.

Cost: of order b c p min(c, p) for p positions; matrices of c x c are only formed where c < 3p. No parameters.

Reference: Liu et al., "Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation", ICCV 2021, arXiv:2202.03680,
section 3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.geometry import unit
from ..ops.grams import inner_products, product_gap
from ..ops.layouts import as_positions
from ..ops.precision import without_autocast
from ..types import Needs, Signals
from .base import Loss, pairs


def channel_gap(student: Tensor, teacher: Tensor, *, normalise: bool) -> Tensor:
    """Squared distance of the channels' inner products, summed over all pairs of channels.

    Args:
        student: map `(batch, channels, height, width)`, tokens `(batch, tokens, channels)` or vectors, which are maps of one position.
        teacher: likewise; the number of positions may be another.
        normalise: whether every row of inner products is divided by its length.

    Returns:
        `(batch,)`; with many more channels than positions a normalised row is as exact as the square of its share in F.

    Raises:
        ShapeMismatch: where the numbers of channels differ.
    """
    ours, theirs = as_positions(student), as_positions(teacher)
    if ours.shape[1] != theirs.shape[1]:
        raise ShapeMismatch(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} must have as many channels here; "
            "let an adapter map the student's channels onto the teacher's."
        )
    positions = ours.shape[2]
    if positions == theirs.shape[2] and 3 * positions <= ours.shape[1]:  # the products would be larger than the features
        left, right = (_row_scaled(ours), _row_scaled(theirs)) if normalise else (ours, theirs)
        return product_gap(left, ours, right, theirs)
    products = [inner_products(ours), inner_products(theirs)]
    first, second = [unit(rows) for rows in products] if normalise else products
    return (first - second).square().sum((1, 2))


def _row_scaled(channels: Tensor) -> Tensor:
    """U such that the rows of U F^T are those of F F^T, divided by their lengths; a channel of zeros stays one."""
    with without_autocast(channels):
        squares = ((channels @ (channels.mT @ channels)) * channels).sum(-1, keepdim=True)
    # No row is shorter than its own entry on the diagonal; rounding must not say otherwise.
    squares = torch.maximum(squares, channels.square().sum(-1, keepdim=True).square())
    return channels * squares.masked_fill(squares == 0, math.inf).rsqrt()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class ICKD(Loss):
    """Matches which channels are active together, over one or more layers; where they are active does not count."""

    exempt: ClassVar = {"precision": "the paper's inner products are of fourth order: at magnitude 30 their gradient is beyond float16"}

    variant: Literal["paper", "official"] = "paper"
    """The paper's inner products, or those of the authors' code with rows of length 1."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        official = self.variant == "official"
        values: list[Tensor] = []
        for s, t in pairs(student, teacher):
            channels = as_positions(t).shape[1]
            values.append(channel_gap(s, t, normalise=official) / (channels if official else channels**2))
        return torch.stack(values).sum(0)
