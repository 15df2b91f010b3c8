"""Keeps, for every class that the model predicts, the examples of which it is surest: a balanced choice from an unlabelled pool.

Reference: Cui et al., "Beyond Self-Supervision: A Simple Yet Effective Network Distillation Alternative to Improve Backbones", 2021,
arXiv:2103.05959 (the k images with the highest score of each class, after near-duplicates of the validation images are removed: `apart`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from .base import Amount, Evidence, Selection, known, largest


@final
@dataclass(frozen=True, kw_only=True)
class PerClass(Selection):
    """Largest probability, within each predicted class; `top` counts examples of one class."""

    reads: ClassVar = ("logits",)

    def scores(self, evidence: Evidence) -> Tensor:
        """As the class says, `(examples,)`, float64."""
        return known(evidence.logits, "the logits").softmax(1).amax(1)

    def choose(self, evidence: Evidence, amount: Amount) -> tuple[Tensor, Tensor]:
        """The same number of every predicted class, or all where there are fewer."""
        logits, scores = known(evidence.logits, "the logits"), self.scores(evidence)
        total, classes = amount.of(len(evidence)), logits.shape[1]
        each = total if amount.top is not None else max(total // classes, 1)
        predicted = logits.argmax(1)
        rows = [(predicted == name).nonzero().flatten() for name in range(classes)]
        return torch.cat([own[largest(scores[own], each)] for own in rows]).sort().values, scores
