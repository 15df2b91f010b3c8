r"""Activation boundaries: neurons are active where the teacher's are, by a margin.

.. math:: \sum_l \sum_d \max(0, \mu - \rho_{l,d} \, s_{l,d})^2, \qquad \rho = +1 \text{ where } t > 0, \text{ else } -1

where s and t are the features *before* the activation function (tap the normalisation or the convolution, not what is behind the ReLU),
and only the sign of t counts. The sum runs over all elements d of layer l.

The public code of the collections for CIFAR weighs layer i of n by :math:`2^{i-n}`, counted from 1, and all by 3/1000
(`variant: zoo`).

When to use: to initialise a student before it learns from the labels, in a stage of its own; it says which regions the neurons tell
apart and nothing of the strength of their response. Where channels differ, an adapter learns them:
`adapter: {kind: conv1x1, bias: false, batch_norm: true}` is the paper's.

Cost: of order of the number of elements; no parameters.

Reference: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons", AAAI 2019,
arXiv:1811.03233, equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ..ops.precision import widen
from ..types import Needs, NonNegative, Signals
from .base import Loss, agree, pairs
from .mse import squared_error


def boundary_gap(student: Tensor, teacher: Tensor, *, margin: float) -> Tensor:
    """Squared distance of every element from its side of the boundary; two tensors `(batch, ...)` to `(batch, ...)`."""
    student, teacher = agree(widen(student), teacher)
    # The nearest value that is right is the target; where the student is right already it is its own: no error and no gradient.
    own = student.detach()  # mutate: equivalent (no gradient passes the target, only time)
    return squared_error(student, torch.where(teacher > 0, own.clamp_min(margin), own.clamp_max(-margin)))


@final
@dataclass(eq=False, repr=False, kw_only=True)
class AB(Loss):
    """Matches which neurons respond, over one or more layers tapped before their activation function."""

    exempt: ClassVar = {"equality": "a response on the right side that is smaller than the margin is still to grow"}

    margin: NonNegative = 1.0
    """How far beyond the boundary a response must be to count as right."""
    variant: Literal["paper", "zoo"] = "paper"
    """The paper's sum over the layers, or the one that is weighted, of the collections for CIFAR."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        gaps = [boundary_gap(*pair, margin=self.margin).flatten(1).sum(1) for pair in pairs(student, teacher)]
        if self.variant == "zoo":
            gaps = [gap * 0.003 / 2**i for i, gap in enumerate(reversed(gaps))]
        return torch.stack(gaps).sum(0)
