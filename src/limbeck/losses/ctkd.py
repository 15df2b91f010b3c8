r"""Curriculum temperature: a learned temperature that works against the student.

.. math:: T^2 \, KL\left(softmax(z^t / T) \,\|\, softmax(z^s / T)\right), \qquad T = T_0 + R \, \sigma(\theta)

where :math:`\theta` is one learned number for all examples (the paper's global version), which starts at 1, and :math:`\sigma` the
logistic function. On its way to :math:`\theta` the gradient is multiplied by :math:`-\lambda`: the student lowers the loss, the
temperature raises it, more so as :math:`\lambda` grows. The paper lets it grow from 0 to 1 over the first ten epochs:
`reversal: {schedule: cosine, start: 0, end: 1, until: 0.05}`. The factor :math:`T^2` is part of what is differentiated, as in the
authors' code.

The authors' code subtracts :math:`p \log p` and :math:`p \log q` only after it has rounded both (`variant: official`): at a high
temperature the slope by :math:`\theta` is then mostly this rounding. The formula is the same.

When to use: as `kd`, where no time is to be spent on the search for a temperature. Give :math:`\theta` no weight decay if it should reach
the ends of its range.

Cost: of order b C for b examples and C classes; one parameter.

Reference: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023, arXiv:2211.16231, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from ..ops.divergence import kl
from ..ops.gradient import scale_gradient
from ..ops.precision import widen
from ..types import Needs, NonNegative, Positive, Signals
from .base import Loss, logit_pair, logits_of


def tempered_kl(student: Tensor, teacher: Tensor, temperature: Tensor, *, explicit: bool) -> Tensor:
    """`T^2 KL` at a temperature `(1,)` that may carry a gradient; logits `(..., classes)` to `(...)`.

    With `explicit`, entropy and cross-entropy are rounded before they are subtracted, as the authors' code does.
    """
    student, teacher = widen(student) / temperature, widen(teacher) / temperature
    if not explicit:
        return temperature.square() * kl(teacher, student)
    p = teacher.softmax(-1)
    # The logarithm of a probability that underflowed would be infinite, and so its slope by the temperature not a number.
    floor = torch.finfo(p.dtype).tiny
    return temperature.square() * (torch.xlogy(p, p.clamp_min(floor)) - p * student.log_softmax(-1)).sum(-1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class CTKD(Loss):
    """Hinton's distillation at a temperature that is learned against the student, at first gently."""

    temperature: Positive = 1.0
    """Lower end of the softmax temperature."""
    temperature_range: NonNegative = 20.0
    """How far the temperature can rise above its lower end."""
    reversal: float = 1.0
    """Strength of the reversal, meant to be scheduled from 0 to 1; at 0 the temperature stays as it is."""
    variant: Literal["paper", "official"] = "paper"
    """The formula as it is, or rounded as by the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def setup(self, student: Signals, teacher: Signals) -> None:
        self.theta = nn.Parameter(torch.ones(1, device=logits_of(student).device))

    def current(self) -> Tensor:
        """The temperature now, `(1,)`, between its two ends."""
        return self.temperature + self.temperature_range * scale_gradient(self.theta, -self.reversal).sigmoid()

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return tempered_kl(*logit_pair(student, teacher), self.current(), explicit=self.variant == "official")
