r"""Logits of a model with a fresh prompt follow those with a transferred one.

.. math:: \frac{1}{D} \sum_d (s_d - t_d)^2

for the logits s of the student and t of the teacher, of D classes. It stands beside the cross-entropy of the labels, with a weight that the
paper makes larger the nearer source and target task are (`weight: {alike: [source, teacher]}`).

The authors' code multiplies the mean over the batch by 0.1 and :math:`\beta`, and divides it once more by the number of examples of the
batch, so that its share falls with the size of the batch (`variant: official`); the examples are those of one forward pass.

When to use: a prompt (`student: {prompt: 20}`) is learnt for a task with few labels, and another task with many has a prompt already.

Cost: of order of the number of logits; no parameters.

Reference: Zhong et al., "PANDA: Prompt Transfer Meets Knowledge Distillation for Efficient Model Adaptation", TKDE 2024, arXiv:2208.10160;
what is said of the weight is from memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor

from ..types import Needs, NonNegative, Signals
from .base import Loss, logit_pair
from .mse import mean_squared_error

_OFFICIAL = 0.1
"""The factor of the authors' code beside beta."""


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Panda(Loss):
    """Squared error of the logits, for a student that learns a prompt."""

    exempt: ClassVar = {
        "shift": "the level of the logits is part of what is matched",
        "independence": "the authors' code divides by the number of examples",
    }

    beta: NonNegative = 0.1
    """Read by `variant: official` only: its weight."""
    variant: Literal["paper", "official"] = "paper"
    """`official`: multiplied by 0.1 beta, and divided by the number of examples."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        values = mean_squared_error(*logit_pair(student, teacher))  # mutate: equivalent swapped (symmetric)
        return values * (_OFFICIAL * self.beta / len(values)) if self.variant == "official" else values
