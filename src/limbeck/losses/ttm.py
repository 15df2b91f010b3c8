r"""Transformed teacher matching: temperature on the teacher's side only.

.. math:: KL\left(p^{(\gamma)} \,\|\, q\right), \qquad p^{(\gamma)}_k = \frac{p_k^\gamma}{\sum_j p_j^\gamma}

where p and q are the probabilities of teacher and student at temperature 1. The power :math:`\gamma` = 1 / T is the teacher's
temperature, the student has none. So the student also learns to be unsure: next to `kd`, a Renyi entropy of the student is rewarded.

The authors' code raises probabilities and not logits to the power (`variant: official`); it differs where a probability
underflows to 0 in float32, which the power of a smaller :math:`\gamma` would bring back.

When to use: instead of `kd` where the student is too sure of itself or over-fits. There is no factor :math:`T^2`: the gradient is of the
size of that of a cross-entropy with labels. An example of the authors, VGG-13 and VGG-8 on CIFAR-100, has :math:`\gamma` = 0.1 and a
weight of 45 beside labels of weight 1.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024, arXiv:2402.11148, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch.nn.functional as F
from torch import Tensor

from ..ops.divergence import kl, log_softmax
from ..ops.precision import widen
from ..types import Needs, Positive, Signals
from .base import Loss, logit_pair


def transformed_kl(student: Tensor, teacher: Tensor, *, gamma: float) -> tuple[Tensor, Tensor]:
    r"""The divergence, and the power sum :math:`\sum_k p_k^\gamma`; `(..., classes)`, each to `(...)`."""
    powers = gamma * log_softmax(teacher)
    return kl(powers, student), powers.logsumexp(-1).exp()


def explicit_transformed_kl(student: Tensor, teacher: Tensor, *, gamma: float) -> tuple[Tensor, Tensor]:
    """The same from powers of probabilities, as the authors' code has it."""
    powers = widen(teacher).softmax(-1).pow(gamma)
    mass = powers.sum(-1)
    values = F.kl_div(log_softmax(student), powers / mass.unsqueeze(-1), reduction="none")
    return values.sum(-1), mass


@final
@dataclass(eq=False, repr=False, kw_only=True)
class TTM(Loss):
    """The student's own probabilities, without a temperature, match the teacher's softened ones."""

    exempt: ClassVar = {"equality": "the student matches what the teacher says at another temperature than its own"}

    gamma: Positive = 0.1
    """Power of the teacher's probabilities, 1 / T; below 1 it softens."""
    variant: Literal["paper", "official"] = "paper"
    """Powers taken of logits, exact for all of them, or of probabilities, as in the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        how = explicit_transformed_kl if self.variant == "official" else transformed_kl
        return how(*logit_pair(student, teacher), gamma=self.gamma)[0]
