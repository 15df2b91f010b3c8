r"""Adaptive KL: forward and reverse divergence, weighted by where the two differ.

.. math:: T^2 \left[ \frac{g_h}{g_h + g_t} KL(p \,\|\, q) + \frac{g_t}{g_h + g_t} KL(q \,\|\, p) \right], \qquad
          g_h = \sum_{k \in head} |p_k - q_k|, \quad g_t = \sum_{k \in tail} |p_k - q_k|

with :math:`p = softmax(z^t / T)` and :math:`q = softmax(z^s / T)`. The head are the classes that the teacher holds to be likeliest, which
together have at most the probability `head`, and always the first of them; the tail are the others. Early in a training the forward
divergence fits the head first and the reverse one the tail, and each weighs here as much as there is left for it to do. No gradient passes
through the weights.

DSKD counts from the other end (`variant: dskd`): the tail are the least likely classes that together have less than 1 - `head`, so that
the class in the middle belongs to the head.

When to use: language models and other tasks with many classes, where neither direction of the divergence is right from beginning to
end; instead of `kd` with `symmetric` or `js`, without a weight to choose.

Cost: of order b C log C for b examples and C classes, since the classes are sorted; no parameters.

Reference: Wu et al., "Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models", COLING 2025,
arXiv:2404.02657, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from ..ops.divergence import adaptive_kl
from ..ops.precision import softened
from ..types import Fraction, Needs, Positive, Signals
from .base import Loss, logit_pair


@final
@dataclass(eq=False, repr=False, kw_only=True)
class AKL(Loss):
    """Lets every example mix the two directions of the divergence by what it still lacks."""

    exempt: ClassVar = {"gradcheck": "the weights of the two directions count as constants, so the gradient is not that of the value"}

    temperature: Positive = 1.0
    """Softmax temperature T of both models."""
    head: Fraction = 0.5
    """Probability that the head's classes have together, at most."""
    variant: Literal["paper", "dskd"] = "paper"
    """From which end the classes are counted: from the likeliest, or from the least likely."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = (softened(logits, self.temperature) for logits in logit_pair(student, teacher))
        return self.temperature**2 * adaptive_kl(theirs, ours, head=self.head, ascending=self.variant == "dskd")
