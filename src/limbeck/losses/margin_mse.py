r"""Margin MSE: how far the right answer is above each other one.

.. math:: \frac{1}{C - 1} \sum_{k \neq y} \left( (z^s_y - z^s_k) - (z^t_y - z^t_k) \right)^2

where y is the label: of a model that ranks, the relevant document among C candidates, whose scores are the logits. The level and the
distances among the wrong answers are free only as far as their margins to the right one agree.

When to use: a small retriever or ranker learns from a large one whose scores have another level; unlike `kd` it asks for the same
distances, not for the same probabilities.

Cost: of order b C for b examples and C candidates or classes; no parameters.

Reference: Hofstätter et al., "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation", 2020,
arXiv:2010.02666, equation 3 (there of one wrong answer; the mean over several is that of sentence-transformers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from ..ops.classes import at_label, known_labels
from ..ops.precision import widen
from ..types import Needs, Signals
from .base import Loss, logit_pair, required
from .mse import squared_error


def margin_gap(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Mean over the wrong answers; `(..., candidates)` and the right one's index `(...)` to `(...)`, 0 where that is -100."""
    known, index = known_labels(labels)
    ours, theirs = (at_label(x, index).unsqueeze(-1) - x for x in (widen(student), widen(teacher)))
    # The right answer's own margin is 0 in both, so that it adds nothing to the sum.
    values = squared_error(ours, theirs).sum(-1) / max(student.shape[-1] - 1, 1)
    return values.masked_fill(~known, 0)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class MarginMSE(Loss):
    """Matches the margins between the right answer and the wrong ones."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return margin_gap(*logit_pair(student, teacher), required(labels))
