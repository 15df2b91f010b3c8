r"""Overhaul of feature distillation: responses before a ReLU, above a margin.

.. math:: \sum_l \sum_d \begin{cases} 0 & \text{where } r(s)_d \le \hat t_d \le 0 \\ (\hat t_d - r(s)_d)^2 & \text{else} \end{cases},
          \qquad \hat t = \max(t, m)

where s and t are the features *before* the ReLU (tap the normalisation), r a 1x1 convolution with batch norm that the loss learns, and m
the margin of each channel of the teacher: the mean of its negative responses. An element that is below a negative target is well.

The margins are those of the batch at hand, either the plain mean of the negative responses (`margin: responses`; 0 for a channel that
has none) or that of a normal distribution with the channel's mean and deviation (`margin: normal`). The authors' code takes the latter
from the offset and scale of the teacher's batch norm, of which that distribution is the estimate here: a loss sees features, not layers.

The authors' code for CIFAR also weighs layer i of n by :math:`2^{i-n}`, counted from 1, and all by 1/1000 (`variant: official`).

When to use: convolutional networks with layers that end in a normalisation before a ReLU; one of the strongest losses on features there.

Cost: a 1x1 convolution a layer, of order b p c d for p positions, c and d channels; (c + 2) d parameters a layer, none in the student.

Reference: Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019, arXiv:1904.01866, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..ops.closed_form import closed_form
from ..ops.layouts import as_map
from ..ops.precision import widen, without_autocast
from ..types import Needs, Signals
from ._connectors import conv_norm
from .base import Loss, agree, pairs


def margin_of_responses(teacher: Tensor) -> Tensor:
    """Mean of the negative responses of each channel, `(batch, channels, height, width)` to `(channels,)`; 0 where there are none."""
    negative = teacher.clamp_max(0)
    # Counting by signs takes half the time of summing a mask; it is exact up to 16 million responses.
    count = -negative.sign().sum((0, 2, 3))
    return negative.sum((0, 2, 3)) / count.clamp_min(1)


def margin_of_normal(mean: Tensor, deviation: Tensor) -> Tensor:
    """Mean of the negative part of normal distributions; minus three deviations where at most a thousandth is negative."""
    share = torch.special.ndtr(-mean / deviation)
    density = torch.exp(-0.5 * (mean / deviation).square()) / math.sqrt(2 * math.pi)
    expected = mean - deviation * density / share
    return torch.where(share > 1e-3, expected, -3 * deviation)  # mutate: equivalent comparison (no share is exactly that)


def partial_distance(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """Squared difference to the teacher's responses above the margin, where it counts; two maps to `(batch,)`.

    Args:
        student: `(batch, channels, height, width)`, of the teacher's channels.
        teacher: of the same shape.
        margin: `(channels,)`.
    """
    student, teacher = agree(student, teacher)
    return 2 * closed_form(_half_distance, widen(student), teacher, margin).flatten()


def _half_distance(student: Tensor, teacher: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    target = torch.maximum(teacher, margin[:, None, None])
    gap = student - target
    # Below the target it counts only where that is above 0; `where` takes ten times as long.
    gap = gap.clamp_min(0) + torch.ops.aten.threshold_backward(gap.clamp_max(0), target, 0)
    return torch.linalg.vector_norm(gap, dim=(1, 2, 3), keepdim=True).square() / 2, gap


@final
@dataclass(eq=False, repr=False, kw_only=True)
class OFD(Loss):
    """Matches responses of one or more layers tapped before their ReLU; a convolution a layer brings the student's channels along."""

    exempt: ClassVar = {
        "equality": "the student's features pass a convolution first",
        "independence": "the convolution is normalised over the batch, and the margins are those of the batch",
    }

    margin: Literal["responses", "normal"] = "responses"
    """Where the margins come from: the negative responses themselves, or a normal distribution of all responses."""
    variant: Literal["paper", "official"] = "paper"
    """The paper's sum over the layers, or the weighted one of the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        layers = [(as_map(s), as_map(t)) for s, t in pairs(student, teacher)]
        self.connectors = nn.ModuleList(conv_norm(s.shape[1], t.shape[1], 1, s) for s, t in layers)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        gaps: list[Tensor] = []
        for connector, (s, t) in zip(self.connectors, pairs(student, teacher), strict=True):
            ours, theirs = as_map(s), as_map(t)
            with without_autocast(ours):
                gaps.append(partial_distance(connector(ours), theirs, self._margin(theirs)))
        if self.variant == "official":
            gaps = [gap / 1000 / 2**i for i, gap in enumerate(reversed(gaps))]
        return torch.stack(gaps).sum(0)

    def _margin(self, teacher: Tensor) -> Tensor:
        if self.margin == "responses":
            return margin_of_responses(teacher)
        return margin_of_normal(teacher.mean((0, 2, 3)), teacher.var((0, 2, 3), correction=0).sqrt())
