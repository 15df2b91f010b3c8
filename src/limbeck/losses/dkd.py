r"""Decoupled knowledge distillation: target class and other classes weighted apart.

.. math:: T^2 \left[ \alpha \, KL(b^t \,\|\, b^s) + \beta \, KL(\hat p^t \,\|\, \hat p^s) \right]

where :math:`b` is the pair (probability of the label, of all other classes) and :math:`\hat p` the softmax over the other
classes, both at temperature T.

Reference: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv:2203.08679, equation 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..ops.divergence import kl
from ..ops.precision import widen
from ..types import IGNORE, Needs, NonNegative, Positive, Signals
from .base import Loss, logit_pair, required


def decoupled_kl(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Target-class and other-class divergence; `(..., classes)` and class indices `(...)`, each to `(...)`.

    Both are 0 where the label is -100.
    """
    known = labels != IGNORE
    index = labels.masked_fill(~known, 0).unsqueeze(-1)
    # Gathering the classes that are not the label keeps the shapes fixed (a mask would not compile) and the others exact.
    others = torch.arange(student.shape[-1] - 1, device=labels.device).expand(*labels.shape, -1)
    others = others + (others >= index)

    def split(logits: Tensor) -> tuple[Tensor, Tensor]:
        logits = widen(logits) / temperature
        hit, rest = logits.gather(-1, index), logits.gather(-1, others)
        return torch.cat([hit, rest.logsumexp(-1, keepdim=True)], -1), rest

    (student_pair, student_rest), (teacher_pair, teacher_rest) = split(student), split(teacher)
    return kl(teacher_pair, student_pair) * known, kl(teacher_rest, student_rest) * known


@final
@dataclass(eq=False, repr=False, kw_only=True)
class DKD(Loss):
    """Hinton's loss couples the two parts; here what the teacher says of the wrong classes keeps its weight when it is sure."""

    alpha: NonNegative = 1.0
    """Weight of the target-class term."""
    beta: NonNegative = 8.0
    """Weight of the term on the other classes."""
    temperature: Positive = 4.0
    """Softmax temperature T of both models."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        target, others = decoupled_kl(*logit_pair(student, teacher), required(labels), temperature=self.temperature)
        return self.temperature**2 * (self.alpha * target + self.beta * others)
