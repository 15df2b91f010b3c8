r"""Knowledge distillation: divergence between softened predictions.

.. math:: T^2 \, KL\left(softmax(z^t / T) \,\|\, softmax(z^s / T)\right)

When to use: there is a teacher and the task is a classification. The first thing to try; a temperature of 2 to 8.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from ..ops.divergence import kl
from ..ops.precision import widen
from ..types import Needs, Positive, Signals
from .base import Loss, logit_pair


def softened_kl(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """KL of the student from the teacher at `temperature`; `(..., classes)` to `(...)`."""
    return kl(widen(teacher) / temperature, widen(student) / temperature)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class KD(Loss):
    """Hinton's distillation, scaled by T^2 so that its gradient keeps its size when the temperature changes."""

    temperature: Positive = 4.0
    """Softmax temperature T of both models."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return self.temperature**2 * softened_kl(*logit_pair(student, teacher), temperature=self.temperature)
