r"""The teacher's answer as a label: its likeliest class and nothing of the others, as of a machine that answers in words.

.. math:: p = onehot\left(\arg\max_c z^t_c\right), \qquad w = \left[\max_c softmax(z^t)_c \geq s\right]

with s the field `sure`: an answer of which the teacher is less sure is *unknown*, and left out; the term is the mean over what is kept,
over the whole update. The label stays hard at any temperature of the loss. Of a teacher that gives only labels (`limbeck.data.annotate`)
they are hard already.

Reference: Kuzman and Ljubesic, "LLM Teacher-Student Framework for Text Classification With No Manually Annotated Data", IEEE Access 2025,
arXiv:2411.19638. There the annotator says itself what it does not know; the limit is a choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from ..errors import SignalMissing
from ..ops.precision import widen
from ..types import Fraction, Signals
from .base import Target

_APART = 1e4
"""By how much the likeliest class leads: at any temperature in use all others have the probability 0, and no infinity is met."""


@final
@dataclass(eq=False, repr=False, kw_only=True)
class HardLabels(Target):
    """Leaves of the teacher's answer the class alone, and leaves out what it is not sure of."""

    weighs: ClassVar[bool] = True

    sure: Fraction = 0.0
    """Probability of its answer below which the teacher knows none."""

    def weights(self, student: Signals, teacher: Signals, labels: Tensor | None) -> Tensor:
        return (widen(_logits(teacher)).softmax(-1).amax(-1) >= self.sure).float()

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> tuple[Signals, Signals]:
        logits = _logits(teacher)
        best = logits.argmax(-1, keepdim=True)
        return student, replace(teacher, logits=torch.full_like(logits, -_APART).scatter(-1, best, 0.0))


def _logits(teacher: Signals) -> Tensor:
    if teacher.logits is None:
        raise SignalMissing("hard_labels reads the teacher's logits, and the teacher gave none; remove it from this term.")
    return teacher.logits
