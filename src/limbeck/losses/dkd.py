r"""Decoupled knowledge distillation: target class and other classes weighted apart.

.. math:: T^2 \left[ \alpha \, KL(b^t \,\|\, b^s) + \beta \, KL(\hat p^t \,\|\, \hat p^s) \right]

where :math:`b` is the pair (probability of the label, of all other classes) and :math:`\hat p` the softmax over the other
classes, both at temperature T.

The authors' code is the same formula in another arithmetic (`variant: official`): it takes the logarithm of an explicit softmax, and
removes the label by subtracting 1000 from its tempered logit, which no longer removes it where logits lie that far apart. There its
target-class term becomes infinite; here the probability in its logarithm has a floor of 1e-30.

When to use: the teacher is very sure of itself, so that `kd` says little about the wrong classes; needs labels, so unlabelled examples
do not count. The authors' weight rises from 0 over the first epochs, 20 of 240 on CIFAR-100 (`weight: {schedule: linear, start: 0, end: 1,
until: 0.083}`), where they have T = 4 and, by the pair of models, :math:`\beta` = 8, 6 or 2; on ImageNet T = 1 and
:math:`\beta` = 0.5 or 2.

Cost: of order b C for b examples and C classes, about twice that of `kd`: the classes are read once with and once without the label's;
no parameters.

Reference: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv:2203.08679, equation 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.classes import at_label, known_labels, without_label
from ..ops.divergence import kl
from ..ops.precision import widen
from ..types import Needs, NonNegative, Positive, Signals
from .base import Loss, logit_pair, required


def decoupled_kl(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Target-class and other-class divergence; `(..., classes)` and class indices `(...)`, each to `(...)`.

    Both are 0 where the label is -100.
    """
    known, index = known_labels(labels)

    def split(logits: Tensor) -> tuple[Tensor, Tensor]:
        logits = widen(logits) / temperature
        rest = without_label(logits, index)
        return torch.stack([at_label(logits, index), rest.logsumexp(-1)], -1), rest

    (student_pair, student_rest), (teacher_pair, teacher_rest) = split(student), split(teacher)
    return kl(teacher_pair, student_pair) * known, kl(teacher_rest, student_rest) * known


def explicit_decoupled_kl(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, floor: float) -> tuple[Tensor, Tensor]:
    """The two divergences of `decoupled_kl` in the arithmetic of the authors' code.

    The student's probability in the logarithm of the target-class term is at least `floor`; with a floor of 0 it is infinite, or
    undefined, where a probability underflows.
    """
    known, index = known_labels(labels)
    target = F.one_hot(index, student.shape[-1]).bool()

    def split(logits: Tensor) -> tuple[Tensor, Tensor]:
        logits = widen(logits) / temperature
        probabilities = logits.softmax(-1)
        pair = torch.stack([(probabilities * target).sum(-1), (probabilities * ~target).sum(-1)], -1)
        return pair, logits - 1000 * target

    (student_pair, student_rest), (teacher_pair, teacher_rest) = split(student), split(teacher)
    student_pair = student_pair.clamp_min(floor) if floor else student_pair
    both = F.kl_div(student_pair.log(), teacher_pair, reduction="none").sum(-1)
    rest = F.kl_div(student_rest.log_softmax(-1), teacher_rest.softmax(-1), reduction="none").sum(-1)
    return both * known, rest * known


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
    variant: Literal["paper", "official"] = "paper"
    """The paper's formula, exact for all logits, or the arithmetic of the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        signals = (*logit_pair(student, teacher), required(labels))
        if self.variant == "official":
            target, others = explicit_decoupled_kl(*signals, temperature=self.temperature, floor=1e-30)
        else:
            target, others = decoupled_kl(*signals, temperature=self.temperature)
        return self.temperature**2 * (self.alpha * target + self.beta * others)
