r"""DIST+: correlations of predictions and of feature maps.

.. math:: DIST_{\beta, \gamma} + \iota \, \frac{1}{b N} \sum_{i, n} \left(1 - \rho_c(F^s_{i,:,n}, F^t_{i,:,n})\right)
          + \kappa \, \frac{1}{N} \sum_n \left(1 - \rho_b(\Sigma_c F^s_{:,c,n}, \Sigma_c F^t_{:,c,n})\right)

where F are the feature maps of b examples at N positions, :math:`\rho_c` correlates over the channels of a position (the channel relation)
and :math:`\rho_b` over the examples of the batch, at each position of the maps summed over their channels (the spatial
relation). The first term is that of `dist`. The form of the feature terms is that of the public implementation in torchdistill.

That implementation adds the channel correlation itself, not 1 less it (`variant: official`): its least value is reached where channels
are opposed, and equal models have the loss :math:`\iota`. It also guards correlations by 1e-8. Both are kept for comparison only.

When to use: as `dist`, above all for dense predictions, where feature maps of equal size can be had; the adapter makes their channels
equal. The teacher that is adapted to the student, the paper's other half, is a stage of a recipe.

Cost: of order b C + b c N for b examples, C classes, c channels and N positions; no parameters of its own.

Reference: Huang et al., "DIST+: Knowledge Distillation From a Stronger Adaptive Teacher", TPAMI 47(7), 2025; it extends
arXiv:2205.10536.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch.nn.functional as F
from torch import Tensor

from ..ops.correlation import centred, correlation_gap, guarded_correlation
from ..ops.layouts import as_positions
from ..types import Needs, NonNegative, Positive, Signals
from .base import Loss, agree, logit_pair
from .dist import Gap, relations


def clamped_gap(x: Tensor, y: Tensor, *, dim: int) -> Tensor:
    """1 less the mean correlation along `dim`, with lengths of at least 1e-8."""
    return 1 - F.cosine_similarity(centred(x, dim=dim), centred(y, dim=dim), dim=dim, eps=1e-8).mean()


def channel_relation(student: Tensor, teacher: Tensor, *, gap: Gap) -> Tensor:
    """Mean gap of the channels over all positions, two features of equal shape to a scalar."""
    return gap(as_positions(student), as_positions(teacher), dim=1)  # mutate: equivalent swapped (symmetric)


def spatial_relation(student: Tensor, teacher: Tensor, *, gap: Gap) -> Tensor:
    """Mean gap over the batch, at every position, of the maps summed over their channels; to a scalar."""
    return gap(as_positions(student).sum(1), as_positions(teacher).sum(1), dim=0)  # mutate: equivalent swapped (symmetric)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class DISTPlus(Loss):
    """Relations of classes, examples, channels and positions."""

    exempt: ClassVar = {"equality": "the variant `official` rewards channels that are opposed"}

    beta: NonNegative = 1.0
    """Weight of the relation between the classes of an example."""
    gamma: NonNegative = 1.0
    """Weight of the relation between the examples of a class."""
    iota: NonNegative = 1.0
    """Weight of the relation between the channels of a position."""
    kappa: NonNegative = 1.0
    """Weight of the relation between the examples at a position."""
    temperature: Positive = 1.0
    """Softmax temperature T of both models."""
    variant: Literal["paper", "official"] = "paper"
    """The exact gaps, or the public code with the sign of its channel relation."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="one", match="full", label_kinds=("class",), global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        official = self.variant == "official"
        gap = clamped_gap if official else correlation_gap
        inter, intra = relations(*logit_pair(student, teacher), temperature=self.temperature, gap=gap)
        ours, theirs = agree(student.feature, teacher.feature)
        channels = channel_relation(ours, theirs, gap=_similarity if official else gap)  # mutate: equivalent swapped (symmetric)
        positions = spatial_relation(ours, theirs, gap=gap)  # mutate: equivalent swapped (symmetric)
        predictions = self.temperature**2 * (self.beta * inter + self.gamma * intra)
        return predictions + self.iota * channels + self.kappa * positions


def _similarity(x: Tensor, y: Tensor, *, dim: int) -> Tensor:
    """What the public code takes for the gap of the channels."""
    return guarded_correlation(x, y, dim=dim, epsilon=1e-8).mean()  # mutate: equivalent swapped (symmetric)
