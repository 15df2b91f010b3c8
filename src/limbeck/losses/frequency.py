r"""Frequency mimicking: maps agree in some frequencies, such as all but their mean.

.. math:: \sum_l \frac{1}{p_l} \left\| m \odot D \left( n(s_l) - n(t_l) \right) \right\|_F^2

where D is the orthonormal discrete cosine transform of each channel over the p positions, m the mask of `band`, and n the norm of
`norm`. The transform keeps lengths: with all frequencies the value is the squared error of the maps, and with a band it is the squared
error of the maps with everything else filtered away.

This is the general form. ScaleKD (below) masks the mean (`band: details`) and then divides every position by its length; its own term
is `scalekd`. `band: low` and `band: high` split the frequencies at `cutoff`, a fraction of the finest one in either direction.

When to use: for maps (or tokens on a grid) of two architectures whose level differs while their details should agree, or to leave out
noise (`low`). Beside `hint`, of which it is a part.

Cost: of order b c p (height + width), two small matrix products; a learned 1x1 convolution a layer where the channels differ.

Reference: Fan et al., "ScaleKD: Strong Vision Transformers Could Be Excellent Teachers", NeurIPS 2024, arXiv:2411.06786, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.dct import dct2, frequencies
from ..ops.geometry import unit
from ..types import Fraction, Needs, Signals
from ._projection import Projections
from .base import Loss, agree

Band = Literal["details", "all", "low", "high"]
Norm = Literal["none", "position", "channel"]


def band_gap(student: Tensor, teacher: Tensor, *, band: Band, cutoff: float, norm: Norm) -> Tensor:
    """Squared error in a band of frequencies, two maps `(batch, channels, height, width)` to `(batch,)`."""
    student, teacher = agree(student, teacher)
    gap = _normed(student, norm) - _normed(teacher, norm)
    height, width = gap.shape[2:]
    if band == "all":
        kept = gap  # the transform would keep its length
    else:
        levels = frequencies(height, width, gap)
        mask = levels > 0 if band == "details" else levels <= cutoff if band == "low" else levels > cutoff
        kept = dct2(gap) * mask
    return kept.square().sum((1, 2, 3)) / (height * width)


def _normed(maps: Tensor, norm: Norm) -> Tensor:
    if norm == "position":
        return unit(maps, dim=1)
    return unit(maps.flatten(2)).reshape(maps.shape) if norm == "channel" else maps


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Frequency(Loss):
    """Squared error of one or more layers in a band of spatial frequencies."""

    band: Band = "all"
    """All frequencies; all but the mean; those up to `cutoff`; those above it."""
    cutoff: Fraction = 0.25
    """Where `low` ends and `high` begins: 0 is the mean of the map, 1 above the finest frequency."""
    norm: Norm = "none"
    """What is scaled to length 1 before: nothing, the channels at each position, or each channel over the positions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.projections = Projections(rectified=False)

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes the convolutions."""
        self.projections.setup(student, teacher)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        layers = self.projections(student, teacher)
        values = [band_gap(s, t, band=self.band, cutoff=self.cutoff, norm=self.norm) for s, t in layers]
        return torch.stack(values).sum(0)
