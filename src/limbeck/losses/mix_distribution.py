r"""MixDistribution: an example is told by its feature, its statistics mixed.

.. math:: -\frac{1}{B} \sum_i \log \frac{e^{\langle z_i, z'_i \rangle / \tau}}{\sum_j e^{\langle z_i, z'_j \rangle / \tau}}, \qquad
          f'_i = \sigma' \frac{f_i - \mu_i}{\sigma_i} + \mu', \quad
          (\mu', \sigma') = \lambda (\mu_i, \sigma_i) + (1 - \lambda) (\mu_j, \sigma_j)

where :math:`f_i` is the student's feature of example i, :math:`\mu_i` and :math:`\sigma_i` the mean and deviation of each of its channels
over the positions, j another example of the batch, :math:`\lambda` uniform in [0, 1], and z the embedding of length 1 of a feature
(a layer and a ReLU at every position, their mean, another layer), which is learned. Partner and :math:`\lambda` are drawn anew in every
update, by a counter that is part of the checkpoint.

When to use: where the images that teach come from elsewhere than those that count, such as a pool from the web, beside terms that
listen to a teacher. On a layer with several positions.

Cost: of order b P C^2 + b^2 D for b examples, P positions of C channels and embeddings of D elements; parameters for two layers.

Reference: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images", ICCV 2023, arXiv:2307.11469.
There is no public code, and its equations were not at hand: that statistics of channels are mixed and that original and mixed instance
are contrasted is the paper's; where, the distribution of the share, the embedding and the temperature are choices made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.draws import other_numbers, scramble
from ..ops.layouts import as_positions
from ..ops.precision import without_autocast
from ..types import Needs, Positive, PositiveInt, Signals
from .base import Loss

_MOVES = "every call in training draws other partners"
_EPSILON = 1e-6


def mixed_statistics(feature: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    r"""Features `(batch, channels, positions)` with the channel means and deviations of `share` themselves and else their partner's.

    Args:
        feature: the features.
        partner: number of the other example of each, `(batch,)`, int64.
        share: :math:`\lambda` of each, `(batch,)`; 1 leaves a feature as it is.
    """
    mean = feature.mean(2, keepdim=True)
    deviation = ((feature - mean).square().mean(2, keepdim=True) + _EPSILON).sqrt()  # mutate: equivalent function (their ratio counts)
    part = share[:, None, None]
    new_mean, new_deviation = (part * own + (1 - part) * own[partner] for own in (mean, deviation))
    return new_deviation * (feature - mean) / deviation + new_mean


def own_among_all(original: Tensor, mixed: Tensor, *, temperature: float) -> Tensor:
    """Negative log-likelihood of finding one's own mixed embedding; both `(batch, dim)` of length 1; `(batch,)`."""
    scores = original @ mixed.mT / temperature
    return -scores.log_softmax(1).diagonal()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class MixDistribution(Loss):
    """The student is to recognise an example by its feature though the feature's statistics are mixed with another example's."""

    exempt: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("purity", "precision", "gradcheck", "copies", "compile"), _MOVES),
        "permutation": "the partner is drawn by place in the batch",
    }
    teaches: ClassVar[bool] = True

    temperature: Positive = 0.1
    """Temperature of the similarities."""
    dim: PositiveInt = 128
    """Size of the embeddings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.draws: Tensor
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    @property
    def needs(self) -> Needs:
        return Needs(teacher=False, features="one", match="any", global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        width = as_positions(student.feature).shape[1]
        device = student.feature.device
        layers = nn.Linear(width, width), nn.Linear(width, self.dim)
        self.inner, self.outer = (layer.to(device) for layer in layers)  # mutate: equivalent unwrapped (the tests have one device)

    def embed(self, feature: Tensor) -> Tensor:
        """The embedding of features `(batch, channels, positions)`, `(batch, dim)`, of length 1; after `setup`."""
        return F.normalize(self.outer(F.relu(self.inner(feature.mT)).mean(1)), dim=1)

    def drawn(self, count: int) -> tuple[Tensor, Tensor]:
        """Partner and share of each of `count` examples, at least 2, for the update that is under way."""
        own = torch.arange(count, device=self.draws.device)
        partner = other_numbers(own, seed=2 * self.draws, count=1, size=count).squeeze(1)
        share = scramble(scramble(2 * self.draws + 1) ^ own).double() / 2**32
        return partner, share

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        feature = as_positions(student.feature)
        if len(feature) < 2:
            return feature.sum() * 0  # mutate: equivalent function (nothing times anything)
        partner, share = self.drawn(len(feature))
        mixed = mixed_statistics(feature, partner, share.to(feature.dtype))
        if self.training:
            self.draws = self.draws + 1
        with without_autocast(feature):
            return own_among_all(self.embed(feature), self.embed(mixed), temperature=self.temperature).mean()
