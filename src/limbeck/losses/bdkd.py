r"""Balanced divergences: KL both ways, weighted by who is more confident.

.. math:: T^2 \left[ a_i \, KL(p^t_i \,\|\, p^s_i) + b_i \, KL(p^s_i \,\|\, p^t_i) \right]

where :math:`p = softmax(z / T)`. Of the two weights one is :math:`\delta` and the other 1, for each example i by the sign of the gap
:math:`H(p^t_i) - H(p^s_i)` of the entropies. Where the student is the more confident of the two (gap above 0),
:math:`a_i = \delta`: the forward divergence makes it spread its probability over all that the teacher considers. Where it is not,
:math:`b_i = \delta`: the reverse divergence makes it commit itself. With :math:`\delta = 1` this is twice the symmetric divergence.

There is no public code. Which divergence is weighted where, and the sizes of :math:`\delta` and T, follow here from the paper's aim, a
student that is neither too sure nor too unsure; `confident: reverse` swaps the two.

When to use: the student's probabilities have to be calibrated, in particular when both models learn together (as the teacher's side of
that, `kd` with the reverse divergence).

Cost: of order b C for b examples and C classes; no parameters.

Reference: Amara et al., "BD-KD: Balancing the Divergences for Online Knowledge Distillation", 2022, arXiv:2212.12965, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from annotated_types import Ge
from torch import Tensor

from ..ops.divergence import log_softmax
from ..ops.precision import widen
from ..types import Needs, Positive, Signals
from .base import Loss, logit_pair


def both_divergences(student: Tensor, teacher: Tensor, *, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Forward and reverse divergence, and by how much the teacher's entropy is above the student's; `(..., classes)` to `(...)` each."""
    log_s, log_t = (log_softmax(widen(logits) / temperature) for logits in (student, teacher))
    p_s, p_t = log_s.exp(), log_t.exp()
    gap = log_t - log_s
    return (p_t * gap).sum(-1), -(p_s * gap).sum(-1), (p_s * log_s).sum(-1) - (p_t * log_t).sum(-1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class BDKD(Loss):
    """Pulls an overconfident student apart and a hesitant one together, example by example."""

    delta: Annotated[float, Ge(1)] = 2.0
    """Weight of the divergence that is emphasised; the other has weight 1."""
    temperature: Positive = 4.0
    """Softmax temperature T of both models."""
    confident: Literal["forward", "reverse"] = "forward"
    """Which divergence is emphasised where the student is more confident than the teacher."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        forward, reverse, gap = both_divergences(*logit_pair(student, teacher), temperature=self.temperature)
        emphasised = torch.where(gap > 0, forward, reverse) if self.confident == "forward" else torch.where(gap > 0, reverse, forward)
        return self.temperature**2 * (forward + reverse + (self.delta - 1) * emphasised)
