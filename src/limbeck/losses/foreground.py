r"""Foreground imitation: features are matched where objects are, and less elsewhere.

.. math:: \sum_l \sum_p \left[ \frac{m_p}{\sum_q m_q} + \beta \frac{1 - m_p}{\sum_q (1 - m_q)} \right]
          \frac{1}{c} \left\| \varphi_l(s_l)_p - t_{lp} \right\|_2^2

where p runs over the positions of layer l, c is its number of channels, :math:`\varphi_l` a learned 1x1 convolution to the teacher's
channels (the identity where they agree), and :math:`m_p` from 0 to 1 says how much of the foreground is at p. So foreground and
background each give their mean error, whatever their size; where one is empty, it gives nothing.

`mask: attention` takes m from the teacher: the mean of its absolute activations at p, divided by the largest of the image. `mask: given`
takes the signal `mask` of the data, `(batch, height, width)`, 1 on objects (boxes or segments), averaged to the size of the layer.

This is the general form of feature imitation in detection. FGD divides each box by its own area and adds attention of the channels, FRS
takes m from the teacher's classification scores; give such masks as data.

When to use: images of which little matters, as in detection and dense prediction, in place of `hint`.

Cost: of order of the number of elements; a 1x1 convolution a layer where the channels differ.

Reference: Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022, arXiv:2111.11837, equations 1 to 3 and 8;
Du et al., "Distilling Object Detectors with Feature Richness", NeurIPS 2021, arXiv:2111.00674, section 3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import Needs, NonNegative, Signals
from ._projection import Projections
from .base import Loss, agree, extra_of


def masked_gap(student: Tensor, teacher: Tensor, mask: Tensor, *, background: float) -> Tensor:
    """Mean squared error of the foreground, and `background` times that of the rest.

    Args:
        student: map `(batch, channels, height, width)`.
        teacher: of the same shape.
        mask: `(batch, height, width)` from 0 to 1, of the same size.
        background: weight of what is not foreground.

    Returns:
        `(batch,)`.
    """
    student, teacher = agree(student, teacher)
    error = (student - teacher).square().mean(1)

    def mean(weights: Tensor) -> Tensor:
        total = weights.sum((1, 2))
        return (weights * error).sum((1, 2)) / total.masked_fill(total == 0, math.inf)

    return mean(mask) + background * mean(1 - mask)


def attention_mask(teacher: Tensor) -> Tensor:
    """Mean absolute activation, relative to the largest of each map; `(batch, channels, height, width)` to `(batch, height, width)`."""
    strength = teacher.abs().mean(1)  # mutate: equivalent function (relative to the largest)
    most = strength.amax((1, 2), keepdim=True)
    return strength / most.masked_fill(most == 0, math.inf)


def resized_mask(mask: Tensor, like: Tensor) -> Tensor:
    """A mask `(batch, height, width)`, or with one channel, in the height and width of a map: the mean of what falls on each position."""
    height, width = like.shape[2:]
    mask = mask.to(like.dtype).reshape(len(mask), 1, *mask.shape[-2:])
    return F.adaptive_avg_pool2d(mask, (height, width)).squeeze(1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Foreground(Loss):
    """Squared error of one or more layers with a weight for each position."""

    mask: Literal["attention", "given"] = "attention"
    """Where the foreground is: where the teacher is active, or what the data say."""
    background: NonNegative = 0.5
    """Weight of the background; 0 leaves it out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.projections = Projections(rectified=False)

    @property
    def needs(self) -> Needs:
        if self.mask == "given":
            return Needs(features="many", match="space", extra=("mask",))
        return Needs(features="many", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes the convolutions."""
        self.projections.setup(student, teacher)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        layers = self.projections(student, teacher)
        given = extra_of(student, "mask") if self.mask == "given" else None
        masks = [attention_mask(t) if given is None else resized_mask(given, t) for _, t in layers]
        gaps = [masked_gap(s, t, mask, background=self.background) for (s, t), mask in zip(layers, masks, strict=True)]
        return torch.stack(gaps).sum(0)
