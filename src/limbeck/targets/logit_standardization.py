r"""Logit standardization: both models' logits are brought to mean 0 and deviation 1.

.. math:: z' = \frac{z - \bar z}{\sigma(z) + \epsilon}

over the classes of each example; :math:`\sigma` is the deviation of all classes (`variant: paper`), or the estimate that divides by one
less, as in the authors' code (`variant: official`). So the student need not match the level and the spread of
the teacher's logits, but only their relations. The temperature of the loss that follows is then the base temperature :math:`\tau`.

Reference: Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024, arXiv:2403.01427, algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from ..errors import SignalMissing
from ..ops.precision import widen
from ..types import Positive, Signals
from .base import Target


def standardize(logits: Tensor, *, epsilon: float, unbiased: bool) -> Tensor:
    """Logits of mean 0 and deviation 1 over the last dimension, `(..., classes)`; all zero where they are all equal."""
    logits = widen(logits)
    centred = logits - logits.mean(-1, keepdim=True)
    count = logits.shape[-1] - (1 if unbiased else 0)
    # The norm, unlike the square root in std, has a finite gradient where all logits are equal.
    return centred / (torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / math.sqrt(count) + epsilon)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class LogitStandardization(Target):
    """Frees the student from the magnitude of the teacher's logits; goes with any loss that reads logits."""

    epsilon: Positive = 1e-7
    """Added to the deviation, for logits that are all equal."""
    variant: Literal["paper", "official"] = "paper"
    """The paper's deviation, or that of the authors' code."""

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> tuple[Signals, Signals]:
        return self._one(student, "student"), self._one(teacher, "teacher")

    def _one(self, signals: Signals, who: str) -> Signals:
        if signals.logits is None:
            raise SignalMissing(f"logit_standardization changes logits, and the {who} gave none; remove it from this term.")
        return replace(signals, logits=standardize(signals.logits, epsilon=self.epsilon, unbiased=self.variant == "official"))
