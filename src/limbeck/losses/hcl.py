r"""Hierarchical context loss: maps agree in pixels and in averages over regions.

.. math:: \sum_l \frac{\sum_k w_k \, \overline{(P_k s_l - P_k t_l)^2}}{\sum_k w_k}

where :math:`P_k` is the map itself (w = 1), then its averages over 4x4, 2x2 and 1x1 regions with w = 1/2, 1/4, 1/8, the bar is the mean
over channels and positions, and the sum runs over the layers. Regions that are no coarser than the map are left out and use up no weight:
a map of 2 rows has w = 1/2 for its mean. Levels and weights are those of the authors' code, the paper names none.

When to use: in place of `hint` where exact positions are too much to ask; it is the loss in which knowledge review (`reviewkd`) compares
its maps.

Cost: of order of the number of elements, read four times; no parameters of its own, an adapter makes the shapes agree.

Reference: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv:2104.09044, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.layouts import as_map
from ..ops.reduce import example_mean
from ..types import Needs, Signals
from .base import Loss, agree, pairs

_REGIONS = (4, 2, 1)
"""Rows and columns of regions, from the finest to the coarsest."""


def context_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error at all levels, two maps, tokens or vectors of one shape to `(batch,)`."""
    ours, theirs = agree(as_map(student), as_map(teacher))
    # Averages of the difference are differences of averages: each level is pooled once.
    gap = ours - theirs
    total, weight, weights = example_mean(gap.square()), 1.0, 1.0
    for regions in _REGIONS:
        if regions < gap.shape[2]:
            weight /= 2
            total = total + weight * example_mean(F.adaptive_avg_pool2d(gap, regions).square())
            weights += weight
    return total / weights


@final
@dataclass(eq=False, repr=False, kw_only=True)
class HCL(Loss):
    """Squared error of one or more layers, at four resolutions."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return torch.stack([context_gap(*pair) for pair in pairs(student, teacher)]).sum(0)
