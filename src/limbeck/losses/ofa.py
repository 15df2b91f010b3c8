r"""One for all: every stage of the student answers as the teacher does.

.. math:: w_0 \, \ell(z^s) + w_1 \sum_l \ell(g_l(F_l)), \qquad
          \ell(z) = -\sum_c \left[ (p^t_c + [c = y])^{\epsilon} - [c = y] \right] \log p_c(z)

where :math:`F_l` are the student's tapped stages, :math:`g_l` exits that are learned with it, and p the softmax at temperature T
(without a factor :math:`T^2`). A power :math:`\epsilon` above 1 raises what the label's class is to get, the more so the surer the teacher;
with :math:`\epsilon = 1` this is the cross-entropy with the teacher's answers, whatever the label. Only logits are compared, so the two
architectures need nothing in common.

An exit halves height and width (depthwise, then pointwise convolutions that double the channels) until the map is as small as the smallest
one tapped, averages the positions, and ends in a linear layer. Tokens are laid out as their grid. The authors use transformer
blocks where the student works on tokens, and batch normalisation, where here each example is normalised on its own.

The authors' code takes the logarithm of the finished softmax, infinite where that underflows; `explicit_cross_entropy` does so too.

When to use: teacher and student of different kinds (a vision transformer and a convolutional network); tap the stages of the student.
Of the teacher as many layers must be named, which are not read: its stages too, or its head several times.

Cost: of order b C for b examples and C classes, and the exits, of order c^2 parameters for stages of up to c channels.

Reference: Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation", NeurIPS 2023,
arXiv:2310.19444, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ..errors import LimbeckError, SignalMissing
from ..ops.divergence import log_softmax
from ..ops.layouts import as_map
from ..ops.precision import softened, widen
from ..types import IGNORE, Needs, NonNegative, Positive, Signals
from .base import Loss, agree, logits_of, required


def adaptive_cross_entropy(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, epsilon: float) -> Tensor:
    """Cross-entropy with targets raised at the label; `(batch, classes)` and indices `(batch,)` to `(batch,)`, 0 where unlabelled."""
    return target_cross_entropy(*agree(student, raised_targets(teacher, labels, temperature=temperature, epsilon=epsilon)), temperature)


def raised_targets(teacher: Tensor, labels: Tensor, *, temperature: float, epsilon: float) -> Tensor:
    """What the student is to answer, `(batch, classes)`, raised at the label; 0 where unlabelled."""
    log_t = log_softmax(softened(teacher, temperature))
    index = labels.clamp_min(0).unsqueeze(-1)
    raised = torch.expm1(epsilon * log_t.gather(-1, index).exp().log1p())
    return (epsilon * log_t).exp().scatter(-1, index, raised) * (labels != IGNORE).unsqueeze(-1)


def target_cross_entropy(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of logits with targets, which need not sum to 1; two `(batch, classes)` to `(batch,)`."""
    return -(targets * log_softmax(softened(student, temperature))).sum(-1)


def explicit_cross_entropy(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, epsilon: float) -> Tensor:
    """The same by way of the probabilities, in the arithmetic of the authors' code: it may overflow where logits are far apart."""
    ours, theirs = ((widen(logits) / temperature).softmax(-1) for logits in agree(student, teacher))
    hit = torch.zeros_like(ours).scatter(-1, labels.unsqueeze(-1), 1.0)
    return -(((theirs + hit) ** epsilon - hit) * ours.log()).sum(-1)


def exit_for(feature: Tensor, *, halvings: int, width: int, classes: int) -> nn.Sequential:
    """A small network from a map `(batch, channels, height, width)` to logits, on the map's device."""
    channels, layers = feature.shape[1], []
    for left in reversed(range(halvings)):
        outputs = width if left == 0 else 2 * channels
        layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False), nn.Conv2d(channels, outputs, 1)]
        layers += [nn.GroupNorm(1, outputs), nn.ReLU()]
        channels = outputs
    layers = layers or [nn.Conv2d(channels, width, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)).to(feature.device)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class OFA(Loss):
    """Exits turn the student's stages into logits, which are all taught by the teacher's, raised at the label."""

    exempt: ClassVar[Mapping[str, str]] = {"equality": "a cross-entropy, whose least value is the teacher's own uncertainty"}

    temperature: Positive = 1.0
    """Softmax temperature T of both models."""
    epsilon: tuple[Positive, ...] = (1.5,)
    """Power on the targets, 1 to 1.5 in the paper: one for all, or one for each exit and then that of the student's own logits."""
    logit_weight: NonNegative = 1.0
    """Weight of the student's own logits."""
    exit_weight: NonNegative = 1.0
    """Weight of the sum over the exits."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, features="many", match="any", label_kinds=("class",))

    def setup(self, student: Signals, teacher: Signals) -> None:
        maps = [as_map(feature) for feature in student.features.values()]
        if len(self.epsilon) not in (1, len(maps) + 1):
            raise LimbeckError(f"OFA.epsilon: expected 1 or {len(maps) + 1} numbers for {len(maps)} exits, found {list(self.epsilon)!r}.")
        smallest, width = min(item.shape[-1] for item in maps), max(item.shape[1] for item in maps)
        classes = logits_of(student).shape[1]
        self.exits = nn.ModuleList(
            exit_for(item, halvings=round(math.log2(item.shape[-1] / smallest)), width=width, classes=classes) for item in maps
        )

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        if len(student.features) != len(self.exits):
            raise SignalMissing(f"OFA was set up with {len(self.exits)} exits, found {len(student.features)} features of the student.")
        answers = [branch(as_map(feature)) for branch, feature in zip(self.exits, student.features.values(), strict=True)]
        powers = self.epsilon if len(self.epsilon) > 1 else self.epsilon * (len(answers) + 1)
        theirs, known = logits_of(teacher, "teacher"), required(labels)
        targets = {power: raised_targets(theirs, known, temperature=self.temperature, epsilon=power) for power in powers}
        values = [
            target_cross_entropy(*agree(ours, targets[power]), self.temperature)
            for ours, power in zip([*answers, logits_of(student)], powers, strict=True)
        ]
        return self.logit_weight * values[-1] + self.exit_weight * torch.stack(values[:-1]).sum(0)
