r"""MEAL V2: the answers of a teacher, and a critic that tells student from teacher.

.. math:: -\sum_c p^t_c \log p^s_c + \frac{w}{2} \left[ BCE\left(D(z^s), (1, 0)\right) + BCE\left(D(z^t), (0, 1)\right) \right]

where p is the softmax of the logits z, D a small critic (three linear layers, C to C / r to C / r^2 to 2, a ReLU after each but the
last) and BCE the mean over both outputs of the binary cross-entropy with logits. The critic lowers its part; the student raises it: its
gradient comes back reversed (`variant: paper`, a min-max). The teacher is meant to be the mean of the probabilities of several
(`kind: ensemble`), whose logits are then the logarithm of that mean.

The authors' code differs (`variant: official`): nothing is reversed, so that the student helps the critic, and the critic ends in a ReLU.
It also shows the critic the mean of the teachers' logits, which is another point than the logarithm of their mean probability; that is
not imitated here, and the function `critic_value` takes whichever is wanted.

When to use: as the last stage of a student that is already trained on the labels, with several strong teachers and no labels. The paper
trains without weight decay.

Cost: of order b (C + C^2 / r) for b examples and C classes; the critic has as many parameters, :math:`C^2 / r`.

Reference: Shen, Savvides, "MEAL V2: Boosting Vanilla ResNet-50 to 80%+ Top-1 Accuracy on ImageNet without Tricks", 2020,
arXiv:2009.08453, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.gradient import scale_gradient
from ..ops.precision import widen, without_autocast
from ..types import Needs, NonNegative, PositiveInt, Signals
from .base import Loss, logit_pair, logits_of
from .soft_cross_entropy import softened_cross_entropy


def critic_for(logits: Tensor, *, reduction: int, relu: bool) -> nn.Sequential:
    """The critic of logits `(batch, classes)`, on their device; it ends in a ReLU where `relu` says so."""
    classes = logits.shape[1]
    narrow = max(classes // reduction, 1)
    least = max(narrow // reduction, 1)
    layers: list[nn.Module] = [nn.Linear(classes, narrow), nn.ReLU(), nn.Linear(narrow, least), nn.ReLU(), nn.Linear(least, 2)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else [])).to(logits.device)


def critic_value(critic: Callable[[Tensor], Tensor], student: Tensor, teacher: Tensor) -> Tensor:
    """How far the critic is from naming whose logits it sees, `(batch,)`; half of it for each side."""
    with without_autocast(student):
        ours, theirs = critic(widen(student)), critic(widen(teacher))
    # The binary cross-entropy of an output whose truth is 0, or, turned round, 1.
    sides = ours.new_tensor([-1.0, 1.0])
    return F.softplus(torch.cat([ours * sides, theirs * -sides], 1)).mean(1)  # mutate: equivalent operator (divided by ±1 is the same)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class MEALV2(Loss):
    """Cross-entropy with the teacher's probabilities, and a critic that the student is to deceive."""

    exempt: ClassVar[Mapping[str, str]] = {
        "equality": "a cross-entropy, whose least value is the teacher's own uncertainty, and a critic that is wrong at first",
        "shift": "the critic sees the level of the logits",
        "gradcheck": "what the critic sends back to the student is reversed",
        "classes": "the critic has as many weights as the square of the classes over the reduction, as in the paper",
    }

    critic_weight: NonNegative = 1.0
    """Weight w of the critic's part."""
    reduction: PositiveInt = 8
    """How many times narrower each layer of the critic is than the one before."""
    variant: Literal["paper", "official"] = "paper"
    """The student against its critic, or as in the authors' code with it."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def setup(self, student: Signals, teacher: Signals) -> None:
        self.critic = critic_for(logits_of(student), reduction=self.reduction, relu=self.variant == "official")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = logit_pair(student, teacher)
        seen = ours if self.variant == "official" else scale_gradient(ours, -1.0)
        return softened_cross_entropy(ours, theirs, temperature=1.0) + self.critic_weight * critic_value(self.critic, seen, theirs)
