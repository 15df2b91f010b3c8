"""Keeps the examples of which the model is surest, such as those of an unlabelled pool that look like its own data; needs no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from .base import Evidence, Selection, known


@final
@dataclass(frozen=True, kw_only=True)
class Confidence(Selection):
    """Largest probability."""

    reads: ClassVar = ("logits",)

    def scores(self, evidence: Evidence) -> Tensor:
        """As the class says, `(examples,)`, float64."""
        return known(evidence.logits, "the logits").softmax(1).amax(1)
