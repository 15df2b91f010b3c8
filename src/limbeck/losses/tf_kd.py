r"""Teacher-free distillation: a virtual teacher that is always right.

.. math:: KL\left(p^d_T \,\|\, softmax(z^s / T)\right), \qquad p^d_c = a \;\text{for the label, else}\; \frac{1 - a}{C - 1}

where :math:`p^d_T` is the virtual teacher's distribution at temperature T, that is, in proportion to :math:`(p^d)^{1/T}`. The paper adds
this to :math:`(1 - \alpha)` cross-entropy with the weight :math:`\alpha`, without a factor :math:`T^2`.

The authors' code takes :math:`p^d` for logits, :math:`p^d_T = softmax(p^d / T)`, which at T = 20 is nearly even, and divides by the
number of classes (`variant: official`).

When to use: there is no teacher; a little more than label smoothing, at no cost.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020, arXiv:1909.11723, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from ..ops.divergence import kl
from ..ops.precision import widen
from ..types import IGNORE, Needs, Positive, Signals
from .base import Loss, logits_of, required


def virtual_logits(labels: Tensor, *, classes: int, correct: float) -> Tensor:
    """Log-probabilities of a teacher that gives the label `correct`; indices `(...)` to `(..., classes)`, even where unlabelled."""
    others = (1 - correct) / max(classes - 1, 1)
    index = labels.clamp_min(0).unsqueeze(-1)
    logits = torch.full((*labels.shape, classes), math.log(others), device=labels.device)
    return logits.scatter(-1, index, math.log(correct)).masked_fill((labels == IGNORE).unsqueeze(-1), 0.0)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class TFKD(Loss):
    """A hand-made teacher: it always gives the label the same high probability and the other classes equal shares of the rest."""

    teaches: ClassVar[bool] = True

    correct: Annotated[float, Gt(0), Lt(1)] = 0.99
    """Probability a of the label."""
    temperature: Positive = 20.0
    """Softmax temperature T of the student and of the virtual teacher."""
    variant: Literal["paper", "official"] = "paper"
    """How the virtual teacher is softened: as a distribution, or as in the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        logits, labels = widen(logits_of(student)), required(labels)
        classes = logits.shape[-1]
        virtual = virtual_logits(labels, classes=classes, correct=self.correct)
        if self.variant == "official":
            virtual = virtual.exp()  # mutate: equivalent function (a softmax does not see the level)
        value = kl(virtual / self.temperature, logits / self.temperature) * (labels != IGNORE)
        return value / classes if self.variant == "official" else value
