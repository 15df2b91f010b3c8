r"""Keeps the examples of which the model is least sure; needs no labels.

With the probabilities :math:`p` in descending order: entropy :math:`-\sum_k p_k \log p_k`, least confidence :math:`1 - p_1`, margin
:math:`1 - (p_1 - p_2)`.

Reference: Coleman et al., "Selection via Proxy", ICLR 2020, arXiv:1906.11829.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from .base import Evidence, Selection, known


@final
@dataclass(frozen=True, kw_only=True)
class Uncertainty(Selection):
    """How unsure the model is of its own answer."""

    reads: ClassVar = ("logits",)

    measure: Literal["entropy", "least_confidence", "margin"] = "entropy"
    """What counts as unsure."""

    def scores(self, evidence: Evidence) -> Tensor:
        """As the class says, `(examples,)`, float64."""
        probabilities = known(evidence.logits, "the logits").softmax(1)
        if self.measure == "entropy":
            return -(probabilities * probabilities.clamp_min(1e-300).log()).sum(1)
        first, second = probabilities.topk(2).values.unbind(1)
        return 1 - first if self.measure == "least_confidence" else 1 - (first - second)
