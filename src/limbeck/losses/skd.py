r"""Streamlined distillation: each prediction, and directions between predictions.

.. math:: \frac{1}{b} \sum_i KL(p^t_i \,\|\, p^s_i) + \frac{1}{b} \sum_i \sqrt{d_i^\top (\Sigma + \lambda I)^{-1} d_i}

where :math:`p = softmax(z / T)` and :math:`d_i` is row i of the difference of both models' cosines between the logits of all b examples,
:math:`\Sigma` the covariance of these rows. Measured this way, in units of their own spread, differences that all rows share weigh no
more than rare ones. The two terms have weights of their own here.

The authors' code (`variant: official`) multiplies the first term by :math:`T^2` and divides the cosines by the number of classes. It
means to keep only what the teacher is less sure of than in the median, but multiplies means with the mask: the first term is scaled by
the share of examples, the second by the share of classes, whose confidence (for a class the sum over the batch) is at most the median.
torchdistill 1.1.5 masks each example of the first term instead (`variant: zoo`).

When to use: as `mlkd`, with one temperature and less to choose; batches of 64 or more. A batch of one has no directions.

Cost: of order b C for the first term, b^2 C + b^3 for the second, in memory b^2, for b examples and C classes; no parameters.

Reference: Jeong, Lee, Choi, "Streamlined Knowledge Distillation", CVPR 2026 (not on arXiv).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ..ops.geometry import unit
from ..ops.grams import inner_products
from ..ops.precision import widen, without_autocast
from ..types import Needs, NonNegative, Positive, Signals
from .base import Loss, logit_pair
from .kd import softened_kl
from .mlkd import unsure_shares

Variant = Literal["paper", "official", "zoo"]


def instance_gap(student: Tensor, teacher: Tensor, *, temperature: float, variant: Variant) -> Tensor:
    """The mean divergence of the predictions; logits `(batch, classes)` to a scalar."""
    values = softened_kl(student, teacher, temperature=temperature)
    if variant == "paper":
        return values.mean()
    if variant == "official":
        return temperature**2 * values.mean() * unsure_shares(teacher)[0]
    confidence = widen(teacher).softmax(1).amax(1)  # mutate: equivalent function (the logarithms have the same order)
    return temperature**2 * (values * (confidence <= confidence.quantile(0.5))).mean()


def direction_gap(student: Tensor, teacher: Tensor, *, tikhonov: float, variant: Variant) -> Tensor:
    """The mean Mahalanobis length of the differences of the cosines; logits `(batch, classes)` to a scalar."""
    ours, theirs = unit(student), unit(teacher)
    with without_autocast(ours):
        rows = inner_products(ours) - inner_products(theirs)
        if variant != "paper":
            rows = rows / student.shape[1]
        centred = rows - rows.mean(0)  # mutate: equivalent constant (the rows are also the columns)
        covariance = centred.mT @ centred / max(len(rows) - 1, 1) + tikhonov * torch.eye(len(rows), device=rows.device, dtype=rows.dtype)
        factor = torch.linalg.cholesky_ex(covariance).L
        lengths = torch.linalg.vector_norm(torch.linalg.solve_triangular(factor, rows.mT, upper=False), dim=0)
    return lengths.mean() if variant == "paper" else lengths.mean() * unsure_shares(teacher)[1]


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SKD(Loss):
    """Besides each prediction, how the predictions of a batch lie to each other, in units of how much that varies."""

    exempt: ClassVar[Mapping[str, str]] = {
        "shift": "the cosines are those of the logits, whose level counts",
        "chunk": "the covariance of the batch is decomposed as one matrix",
    }

    temperature: Positive = 4.0
    """Softmax temperature T of both models."""
    tikhonov: Positive = 0.1
    """What is added to the variance in every direction, for one that is never seen."""
    instance_weight: NonNegative = 1.0
    """Weight of the divergence of each prediction."""
    direction_weight: NonNegative = 1.0
    """Weight of the directions."""
    variant: Variant = "paper"
    """The paper's terms, those of the authors' code, or those of torchdistill."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",), global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = (logits.flatten(0, -2) for logits in logit_pair(student, teacher))
        instance = instance_gap(ours, theirs, temperature=self.temperature, variant=self.variant)
        return self.instance_weight * instance + self.direction_weight * direction_gap(
            ours, theirs, tikhonov=self.tikhonov, variant=self.variant
        )
