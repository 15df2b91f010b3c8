r"""The surest examples only, by what student and teacher say together, chosen anew in every update.

.. math:: m_i = \max_c \frac{p^s_{ic} + p^t_{ic}}{2}, \qquad w_i = [m_i \text{ is among the largest } \lceil q B \rceil]

with the probabilities of both at temperature 1, of which q is kept, `share`; of equals at the limit all. The sum of both is large only
where both are sure of the same class: of images from elsewhere those are left out that the teacher does not know, and those of which the
student is sure in another way than the teacher. The choice follows the student as it learns, as it does from epoch to epoch in the paper;
it is made among the examples of one forward pass, over which the term is then averaged, so that it depends on the batch of a process and
on `accumulate`. No gradient passes through it. What the two disagree on is left out first, so where all examples are from home, a small
share keeps the student from what it has still to learn.

Goes with any loss that has a value for each example, also one on layers. How the paper combines the two models is not known to us (no
official code); the mean of probabilities is a choice.

Reference: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images", ICCV 2023, arXiv:2307.11469.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ..errors import LimbeckError, ShapeMismatch, SignalMissing
from ..ops.precision import widen
from ..types import Fraction, Signals
from .base import Target


def joint_confidence(student: Tensor, teacher: Tensor) -> Tensor:
    """Largest mean probability of two models, logits `(batch, classes)` to `(batch,)`."""
    both = widen(student).softmax(-1) + widen(teacher).softmax(-1)  # mutate: equivalent operator (there are two dimensions)
    return both.amax(-1) / 2  # mutate: equivalent operator (likewise)


def surest(scores: Tensor, share: float) -> Tensor:
    """Which are among the largest, `(batch,)` to `(batch,)`, bool; at least one, and all that equal the smallest that is kept."""
    return scores >= scores.topk(math.ceil(share * len(scores))).values[-1]


@final
@dataclass(eq=False, repr=False, kw_only=True)
class JointConfidence(Target):
    """Leaves out what student and teacher together are least sure of."""

    weighs: ClassVar[bool] = True
    watches_student: ClassVar[bool] = True

    share: Fraction = 0.5
    """Share of the examples that count; 1 keeps all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share == 0:
            raise LimbeckError("joint_confidence: a share of 0 leaves no example; expected a share above 0.")

    def weights(self, student: Signals, teacher: Signals, labels: Tensor | None) -> Tensor:
        with torch.no_grad():
            return surest(joint_confidence(*_logits(student, teacher)), self.share).float()

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> tuple[Signals, Signals]:
        _logits(student, teacher)
        return student, teacher


def _logits(student: Signals, teacher: Signals) -> tuple[Tensor, Tensor]:
    for who, signals in (("student", student), ("teacher", teacher)):
        if signals.logits is None:
            raise SignalMissing(f"joint_confidence judges the logits of both models, and the {who} gave none; remove it from this term.")
    if student.logits.shape != teacher.logits.shape:
        raise ShapeMismatch(
            f"joint_confidence: student {list(student.logits.shape)} and teacher {list(teacher.logits.shape)} "
            "must answer for the same classes; remove it from this term."
        )
    return student.logits, teacher.logits
