r"""Multi-level logit distillation: predictions, likeness of examples and of classes.

.. math:: \sum_k \left[ \frac{T_k^2}{b} \sum_i KL(p^t_{ik} \,\|\, p^s_{ik}) + \frac{1}{b} \left\| P^t_k P^{t\top}_k - P^s_k P^{s\top}_k
          \right\|_F^2 + \frac{1}{C} \left\| P^{t\top}_k P^t_k - P^{s\top}_k P^s_k \right\|_F^2 \right]

where row i of :math:`P_k` (b examples, C classes) is :math:`p_{ik} = softmax(z_i / T_k)`. The three levels have weights of their own here.
The factor :math:`T_k^2` is that of the authors' code.

The authors' code (`variant: official`) means to keep only what the teacher is less sure of than in the median, but multiplies sums with
the mask: the instance and the batch level are scaled by the share of examples, the class level by the share of classes, whose confidence
(for a class the sum over the batch) is at most the median. It further sees every image twice; put both views into the batch.

When to use: labelled or unlabelled images, batches of 64 or more, as a stronger step-in for `kd`; with `logit_standardization` it was
better still. Small batches say little of classes.

Cost: of order b C min(b, C) for each temperature, in memory b C (of the b x b and the C x C matrix only the smaller is formed); no
parameters.

Reference: Jin, Wang, Lin, "Multi-Level Logit Distillation", CVPR 2023, pages 24276-24285, section 3 (not on arXiv).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.gram_gap import gram_gap
from ..ops.precision import widen
from ..types import Needs, NonNegative, Positive, Signals
from .base import Loss, logit_pair
from .kd import softened_kl


def three_levels(student: Tensor, teacher: Tensor, *, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The instance, batch and class level at one temperature; logits `(batch, classes)` to three scalars."""
    batch, classes = student.shape
    ours, theirs = ((widen(logits) / temperature).softmax(1) for logits in (student, teacher))
    instance = temperature**2 * softened_kl(student, teacher, temperature=temperature).mean()
    rows, columns = gram_gap(ours, theirs), gram_gap(ours.mT, theirs.mT)  # mutate: equivalent swapped (symmetric)
    return instance, rows / batch, columns / classes


def unsure_shares(teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the examples, and of the classes, whose confidence is at most the median; logits `(batch, classes)` to two scalars."""
    probabilities = widen(teacher).softmax(1)
    confidences = probabilities.amax(1), probabilities.sum(0)  # mutate: equivalent function (a mean has the same order)
    examples, classes = ((x <= x.quantile(0.5)).to(x.dtype).mean() for x in confidences)
    return examples, classes


@final
@dataclass(eq=False, repr=False, kw_only=True)
class MLKD(Loss):
    """Besides each prediction, which examples are predicted alike and which classes go together, at several temperatures."""

    temperatures: tuple[Positive, ...] = (4.0, 3.0, 5.0, 2.0, 6.0)
    """Softmax temperatures; the sum over them is the paper's prediction augmentation."""
    instance_weight: NonNegative = 1.0
    """Weight of the divergence of each prediction."""
    batch_weight: NonNegative = 1.0
    """Weight of the likeness of the examples."""
    class_weight: NonNegative = 1.0
    """Weight of the likeness of the classes."""
    variant: Literal["paper", "official"] = "paper"
    """The paper's sums, or those of the authors' code, scaled by the shares of what the teacher is unsure of."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperatures or min(self.temperatures) <= 0:
            raise ValueError(f"MLKD.temperatures must be one or more numbers > 0, got {self.temperatures!r}")

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",), global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = (logits.flatten(0, -2) for logits in logit_pair(student, teacher))
        levels = [torch.stack(three_levels(ours, theirs, temperature=temperature)) for temperature in self.temperatures]
        instance, batch, classes = torch.stack(levels).sum(0)
        total = self.instance_weight * instance + self.batch_weight * batch
        if self.variant == "paper":
            return total + self.class_weight * classes
        of_examples, of_classes = unsure_shares(theirs)
        return of_examples * total + of_classes * self.class_weight * classes
