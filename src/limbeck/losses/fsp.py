r"""Flow of the solution procedure: how the channels of two layers go together.

.. math:: \sum_l \left\| G^t_l - G^s_l \right\|_F^2, \qquad G_{ij} = \frac{1}{p} \sum_x F^1_{x,i} F^2_{x,j}

where :math:`F^1`, :math:`F^2` are two layers of one model, of p positions x; where one is larger, it is pooled to the size of the other.
The paper takes the first and the last layer of each module: layers 1 and 2, 3 and 4, ... of the term (`pairing: pairs`). A mean over
the l instead of the sum belongs into the weight.

Public code departs: the collections for CIFAR take the mean over the entries of G (`variant: zoo`), follow each layer to the next
(`pairing: chain`) and pool by the average; torchdistill sums the lengths of the columns of :math:`G^t - G^s` (`variant: torchdistill`).

When to use: student and teacher have layers of the same numbers of channels, such as a shallow and a deep network of one family; else
adapters learn them. The paper trains on this alone first, then on the labels: two stages of a recipe.

Cost: of order b p c d for layers of c and d channels; the paper's form has matrices of c x d only where they are not larger than
the maps. No parameters.

Reference: Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning", CVPR 2017
(https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html), equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeMismatch, SignalMissing
from ..ops.grams import product_gap
from ..ops.layouts import as_positions
from ..ops.precision import without_autocast
from ..types import Needs, Signals
from .base import Loss, agree, pairs

Pooling = Literal["max", "average"]
Variant = Literal["paper", "zoo", "torchdistill"]


def flow_gap(student: Sequence[Tensor], teacher: Sequence[Tensor], *, pooling: Pooling, variant: Variant) -> Tensor:
    """Distance of the flows between two layers, a pair of features of each model to `(batch,)`.

    Raises:
        ShapeMismatch: where the two layers of a model cannot be brought to one size, or the numbers of channels differ.
    """
    (s1, s2), (t1, t2) = (_aligned(first, second, pooling) for first, second in (student, teacher))
    (rows, positions), columns = s1.shape[1:], s2.shape[1]
    # The products would be larger than the features; the variants form them all the same, to round as public code does.
    if variant == "paper" and s1.shape == t1.shape and s2.shape == t2.shape and 3 * positions <= min(rows, columns):
        total = product_gap(s1 / positions, s2, t1 / positions, t2)
    else:
        gap = torch.sub(*agree(_flow(s1, s2), _flow(t1, t2)))
        if variant == "torchdistill":
            return torch.linalg.vector_norm(gap, dim=1).sum(1)
        total = gap.square().sum((1, 2))
    return total / (rows * columns) if variant == "zoo" else total


def _flow(first: Tensor, second: Tensor) -> Tensor:
    with without_autocast(first):
        return (first @ second.mT) / first.shape[2]


def _aligned(first: Tensor, second: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """`(batch, channels, positions)` twice."""
    if first.ndim == second.ndim == 4:
        size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
        pool = F.adaptive_max_pool2d if pooling == "max" else F.adaptive_avg_pool2d
        shapes = first.shape[2:], second.shape[2:]  # mutate: equivalent constant (a map of that size stays, if pooled)
        first, second = (x if shape == size else pool(x, size) for x, shape in zip((first, second), shapes, strict=True))
    ours, theirs = as_positions(first), as_positions(second)
    if ours.shape[2] != theirs.shape[2]:
        raise ShapeMismatch(
            f"the flow from {list(first.shape)} to {list(second.shape)} needs two maps, or as many tokens; tap other layers."
        )
    return ours, theirs


@final
@dataclass(eq=False, repr=False, kw_only=True)
class FSP(Loss):
    """Matches what happens between two layers instead of what comes out of them; needs two layers or more."""

    exempt: ClassVar = {"precision": "the inner products are of fourth order: at magnitude 30 the gradient of vectors is beyond float16"}

    pairing: Literal["pairs", "chain"] = "pairs"
    """Which layers of the term belong together: 1 and 2, 3 and 4, ..., or each and the next."""
    pooling: Pooling = "max"
    """How the larger of two maps is made as small as the other."""
    variant: Variant = "paper"
    """The paper's sum of squares, the mean of squares of the collections for CIFAR, or the lengths of columns of torchdistill."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        layers = pairs(student, teacher)  # mutate: equivalent swapped (symmetric)
        if len(layers) < 2 or (self.pairing == "pairs" and len(layers) % 2):
            count = "2, 4, 6, ..." if self.pairing == "pairs" else "2 or more"
            raise SignalMissing(f"a flow needs two layers: with pairing {self.pairing!r} name {count} layers, found {len(layers)}.")
        step = 2 if self.pairing == "pairs" else 1
        values: list[Tensor] = []
        for (s1, t1), (s2, t2) in zip(layers[:-1:step], layers[1::step], strict=True):
            ours, theirs = (s1, s2), (t1, t2)
            values.append(flow_gap(ours, theirs, pooling=self.pooling, variant=self.variant))  # mutate: equivalent swapped (symmetric)
        return torch.stack(values).sum(0)
