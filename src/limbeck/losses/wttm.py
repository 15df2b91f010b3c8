r"""Weighted transformed teacher matching: unsure answers of the teacher count more.

.. math:: \left(\sum_j p_j^\gamma\right) KL\left(p^{(\gamma)} \,\|\, q\right), \qquad p^{(\gamma)}_k = \frac{p_k^\gamma}{\sum_j p_j^\gamma}

where p and q are the probabilities of teacher and student at temperature 1. The weight in front is 1 for a teacher that is wholly sure
and :math:`C^{1 - \gamma}` for one that holds all C classes alike; it is not normalised over the batch. `ttm` is the same without it.

The authors' code raises probabilities and not logits to the power (`variant: official`); it differs where a probability
underflows to 0 in float32.

When to use: as `ttm`, which it betters in all experiments of the paper; smooth answers of the teacher are harder to match, so they get
more weight. The weight makes the term large with many classes: choose that of the term accordingly (the authors have 4 beside
`crd`, with :math:`\gamma` = 0.2 and the 100 classes of CIFAR).

Cost: of order b C for b examples and C classes; no parameters.

Reference: Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024, arXiv:2402.11148, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from ..types import Needs, Positive, Signals
from .base import Loss, logit_pair
from .ttm import explicit_transformed_kl, transformed_kl


@final
@dataclass(eq=False, repr=False, kw_only=True)
class WTTM(Loss):
    """`ttm` with every example weighted by how smooth the teacher's answer is."""

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
        value, weight = how(*logit_pair(student, teacher), gamma=self.gamma)
        return weight * value
