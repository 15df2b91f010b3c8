r"""Structured knowledge transfer between layers: relations of all pairs of layers.

.. math:: \sum_{i<j} \left\| G^s_{ij} - G^t_{ij} \right\|_F^2, \qquad G_{ij} = \frac{1}{p} X_i X_j^T

where :math:`X_i` is layer i with a row for each channel, pooled (maximum) to the p positions of the last layer, each channel then
normalised over the positions to mean 0 and variance 1 (1e-5 is added to the variance). The student's layers first pass a learned 1x1
convolution with ReLU to the teacher's channels; where they have as many already, it is the identity.

It is a sum over layers and entries. The authors' code takes the first image of a batch only, as it trains with batches of one; here every
image has its value. Their maps halve in size, so that they pool by 8, 4 and 2; here each is pooled by the power of two (or the ratio)
that brings it to the size of the last.

When to use: with `skt_cosine`, for dense regression; `fsp` relates only layers of one size, two by two.

Cost: of order b p c_i c_j for each of the n(n-1)/2 pairs of n layers; a 1x1 convolution a layer where the channels differ.

Reference: Liu et al., "Efficient Crowd Counting via Structured Knowledge Transfer", ACM MM 2020, arXiv:2003.10120, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeMismatch, SignalMissing
from ..ops.precision import without_autocast
from ..types import Needs, Signals
from ._projection import Projections
from .base import Loss


def layer_relations(maps: Sequence[Tensor]) -> list[Tensor]:
    """The matrices :math:`G_{ij}` of all pairs i < j in order, each `(batch, c_i, c_j)`.

    Raises:
        ShapeMismatch: where a map, pooled by the ratio of its size to the last, does not have the size of the last.
    """
    layers = [F.layer_norm(x, x.shape[2:], eps=1e-5) for x in (_pooled(x, maps[-1]) for x in maps)]  # over the positions: instance norm
    with without_autocast(maps[0]):  # mutate: equivalent constant (all maps are on one device)
        return [x @ y.mT / x.shape[2] for i, x in enumerate(layers) for y in layers[i + 1 :]]


def _pooled(x: Tensor, last: Tensor) -> Tensor:
    size, wanted = x.shape[2:], last.shape[2:]
    if size != wanted:
        x = F.max_pool2d(x, [_ratio(a, b) for a, b in zip(size, wanted, strict=True)], ceil_mode=True)
    if x.shape[2:] != wanted:
        raise ShapeMismatch(f"a map of {list(size)} cannot be pooled to {list(wanted)}, the size of the last layer; name layers in order.")
    return x.flatten(2)


def _ratio(size: int, wanted: int) -> int:
    """By how much to pool: the smallest power of two that suffices, as maps halve from stage to stage, or else the plain ratio."""
    halved = 1 << (-(-size // wanted) - 1).bit_length()
    return halved if -(-size // halved) == wanted else -(-size // wanted)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SKTDenseFSP(Loss):
    """Compares how every layer relates to every later one; it learns to match the teacher's channels."""

    def __post_init__(self) -> None:
        super().__post_init__()  # mutate: equivalent removed, unwrapped (no field has bounds)
        self.projections = Projections(rectified=True)

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes the convolutions."""
        self.projections.setup(student, teacher)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        layers = self.projections(student, teacher)
        if len(layers) < 2:
            raise SignalMissing(f"skt_dense_fsp relates layers to one another, found {len(layers)}; name two or more.")
        ours, theirs = (layer_relations(maps) for maps in zip(*layers, strict=True))
        gaps = [(s - t).square().sum((1, 2)) for s, t in zip(ours, theirs, strict=True)]
        return torch.stack(gaps).sum(0)
