r"""MEAL V2 in turn: a student and a critic that do not move at once.

.. math:: -\sum_c p^t_c \log p^s_c - \frac{w}{2} \left[ BCE\left(D(z^s), (1, 0)\right) + BCE\left(D(z^t), (0, 1)\right) \right]

is what the student lowers in one forward pass, while the critic D rests; in the next the critic lowers :math:`w` times the mean of both
BCE, while the student rests. All else is that of `meal_v2`, where both move at once. The first pass is the student's. What is reported is
the critic's part with a plus sign; its gradient to the student is reversed. What an optimizer carries over, such as momentum, still moves
who rests.

When to use: in place of `meal_v2`, where its min-max does not settle.

Cost: that of `meal_v2`.

Reference: Shen, Savvides, "MEAL V2: Boosting Vanilla ResNet-50 to 80%+ Top-1 Accuracy on ImageNet without Tricks", 2020,
arXiv:2009.08453, section 3; turns as in Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, arXiv:1406.2661, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.gradient import not_absent, scale_gradient
from ..types import Needs, NonNegative, PositiveInt, Signals
from .base import Loss, logit_pair, logits_of
from .meal_v2 import critic_for, critic_value
from .soft_cross_entropy import softened_cross_entropy

_TURNS = "every call in training is a turn of the other; in evaluation the check holds"


def still(critic: nn.Sequential) -> Callable[[Tensor], Tensor]:
    """What says the same as a critic, whose parameters get no gradient."""

    def answer(x: Tensor) -> Tensor:
        for layer in critic:
            x = F.linear(x, layer.weight.detach(), layer.bias.detach()) if isinstance(layer, nn.Linear) else layer(x)
        return x

    return answer


@final
@dataclass(eq=False, repr=False, kw_only=True)
class MEALV2Alternating(Loss):
    """Cross-entropy with the teacher's probabilities, and a critic that the student is to deceive, in turn."""

    exempt: ClassVar[Mapping[str, str]] = {
        "equality": "a cross-entropy, whose least value is the teacher's own uncertainty, and a critic that is wrong at first",
        "shift": "the critic sees the level of the logits",
        "gradcheck": "what the critic sends back to the student is reversed",
        **dict.fromkeys(("independence", "purity", "permutation", "precision", "copies", "compile"), _TURNS),
        "classes": "the critic has as many weights as the square of the classes over the reduction, as in the paper",
    }

    critic_weight: NonNegative = 1.0
    """Weight w of the critic's part."""
    reduction: PositiveInt = 8
    """How many times narrower each layer of the critic is than the one before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.turn: Tensor
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def setup(self, student: Signals, teacher: Signals) -> None:
        self.critic = critic_for(logits_of(student), reduction=self.reduction, relu=False)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = logit_pair(student, teacher)
        turn = self.turn
        if self.training:
            self.turn = turn + 1
        # Of who rests the gradient is 0 and not absent: where processes train together, each parameter must have one.
        if turn % 2:
            return not_absent(self.critic_weight * critic_value(self.critic, ours.detach(), theirs), ours)
        deceived = critic_value(still(self.critic), scale_gradient(ours, -1.0), theirs)
        value = softened_cross_entropy(ours, theirs, temperature=1.0) + self.critic_weight * deceived
        return not_absent(value, *self.critic.parameters())
