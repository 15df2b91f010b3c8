r"""Variational information distillation: the student's layer predicts the teacher's.

.. math:: \sum_{c,x} \frac{1}{2} \left[ \frac{(t_{c,x} - \mu(s)_{c,x})^2}{\sigma_c^2} + \log \sigma_c^2 \right], \qquad
          \sigma_c^2 = \log(1 + e^{\alpha_c}) + \epsilon

the negative logarithm of a normal density of t with the mean :math:`\mu(s)`, three 1x1 convolutions with ReLU between them, and a variance
for each channel c; it bounds the mutual information of both layers from below. Convolutions and :math:`\alpha` are learned by the
loss. The constant :math:`\log(2 \pi) / 2` is left out, so that the value may be below 0.

Public code takes the mean over the channels c and positions x (`variant: official`), to which the quoted weights of about 1 belong.
The convolutions are those of public code, without offsets and with `hidden` times the teacher's channels.

When to use: layers of one height and width; channels that the student cannot predict count less by themselves.

Cost: three 1x1 convolutions, of order b p c^2 for p positions and c channels; some 3 c^2 parameters, none in the student.

Reference: Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019, arXiv:1904.05835, equation 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.layouts import as_map
from ..ops.precision import without_autocast
from ..types import Needs, Positive, Signals
from .base import Loss, agree


def negative_log_density(mean: Tensor, variance: Tensor, teacher: Tensor) -> Tensor:
    """Of every element, without the constant; `(batch, channels, height, width)`, `(channels,)` and the teacher's map."""
    mean, teacher = agree(mean, teacher)
    variance = variance[:, None, None]
    return (mean - teacher).square() * (0.5 / variance) + 0.5 * variance.log()  # two passes over the map less than the formula as it stands


@final
@dataclass(eq=False, repr=False, kw_only=True)
class VID(Loss):
    """Predicts one layer of the teacher from one of the student and learns how well each channel can be predicted."""

    exempt: ClassVar = {"equality": "the prediction is learned, and the logarithm of a density has no smallest value"}

    hidden: Positive = 1.0
    """Channels between the convolutions, as a multiple of the teacher's."""
    initial_variance: Positive = 5.0
    """Variance of every channel before it is learned; must be above `epsilon`."""
    epsilon: Positive = 1e-5
    """Smallest variance."""
    variant: Literal["paper", "official"] = "paper"
    """The paper's sum over channels and positions, or the mean of public code."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial_variance <= self.epsilon:
            raise ValueError(f"VID.initial_variance must be > epsilon, which is {self.epsilon!r}, got {self.initial_variance!r}")

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, theirs = as_map(student.feature), as_map(teacher.feature)
        where = {"device": ours.device, "dtype": torch.promote_types(ours.dtype, torch.float32)}  # mutate: equivalent swapped (symmetric)
        channels = theirs.shape[1]
        hidden = max(round(self.hidden * channels), 1)
        widths = [(ours.shape[1], hidden), (hidden, hidden), (hidden, channels)]
        first, second, third = (nn.Conv2d(*width, 1, bias=False, **where) for width in widths)
        self.regressor = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        learned = self.initial_variance - self.epsilon
        start = learned + math.log(-math.expm1(-learned))  # whose softplus it is, also where exp(learned) would overflow
        self.log_scale = nn.Parameter(torch.full((channels,), start, **where))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours = as_map(student.feature)
        theirs = as_map(teacher.feature)
        with without_autocast(ours):
            value = negative_log_density(self.regressor(ours), F.softplus(self.log_scale) + self.epsilon, theirs)
        return value.sum((1, 2, 3)) if self.variant == "paper" else value
