r"""Singular value decomposition of features: how the directions of layers relate.

.. math:: \sum_l \sum_{ijk} \left( K^s_l - K^t_l \right)_{ijk}^2, \qquad
          (K_l)_{ijk} = \exp \left( -\frac{(\hat\sigma_{lk} v_{lik} - \hat\sigma_{l+1,k} v_{l+1,jk})^2}{\beta} \right)

where :math:`v_{lk}` is the k-th right singular vector of layer l as a matrix of positions by channels, and :math:`\hat\sigma_l` the
teacher's singular values of that layer, scaled to length 1, which weigh the student's vectors too. A vector of the student is the one,
of one more than `count`, that is nearest to the teacher's in direction, whichever its sign.

Singular vectors are given up to their sign, and the relation of two layers changes with it: in the authors' code, which turns the
teacher's vector to the student's side, and in those made after it, the value depends on the linear algebra library. Here the teacher's
vector points to the side on which the features lie (their mean has a positive part along it), and the student's is turned to it. For
features after a ReLU the first vector is then non-negative. Gradients are those of perturbation theory (`ops.spectral`), where the
authors set those that are not finite to zero. The authors' factors (a half, the root of `count`) are left to the weight.

When to use: two or more layers, as wide as the teacher's or adapted to it, when what matters is the flow from layer to layer. A batch of
decompositions is slow on a GPU; prefer `fsp`, which compares layers without one, unless you want what this gives.

Cost: a decomposition of the shorter side of each feature, and of order b c_l c_{l+1} `count` for the relations, which are held in memory;
no parameters.

Reference: Lee et al., "Self-supervised Knowledge Distillation Using Singular Value Decomposition", ECCV 2018, arXiv:1807.06819,
section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from ..errors import SignalMissing
from ..ops.geometry import unit
from ..ops.layouts import as_positions
from ..ops.precision import without_autocast
from ..ops.spectral import singular_directions
from ..types import Needs, Positive, PositiveInt, Signals
from .base import Loss, agree, pairs


def weighted_directions(student: Tensor, teacher: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """The teacher's first singular vectors and the student's nearest to them, times the teacher's relative singular values.

    Args:
        student: `(batch, channels, positions)`.
        teacher: of the same shape.
        count: number of vectors; fewer where the matrix has no more.

    Returns:
        Two tensors `(batch, channels, count)`.
    """
    values, theirs = singular_directions(teacher.mT, count)
    _, candidates = singular_directions(student.mT, count + 1)
    with without_autocast(theirs), torch.no_grad():
        cosines = candidates.mT @ theirs
        nearest = cosines.abs().argmax(1, keepdim=True)  # mutate: equivalent function (squares are in the same order)
        opposite = cosines.gather(1, nearest) < 0  # mutate: equivalent comparison (a right angle has no side)
    ours = candidates.gather(2, nearest.expand(-1, candidates.shape[1], -1))
    ours = torch.where(opposite, -ours, ours)
    weights = unit(values).unsqueeze(1)
    return ours * weights, theirs * weights


def relation(first: Tensor, second: Tensor, *, beta: float) -> Tensor:
    """Radial basis function of all pairs of channels, `(batch, c, count)` and `(batch, d, count)` to `(batch, c, d, count)`."""
    count = min(first.shape[2], second.shape[2])
    gap = first[:, :, None, :count] - second[:, None, :, :count]
    return (gap / math.sqrt(beta)).square().neg().exp()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class KDSVD(Loss):
    """Compares how the main directions of each layer relate to those of the next."""

    count: PositiveInt = 1
    """Number of singular vectors of each layer."""
    beta: Positive = 8.0
    """Width of the radial basis function."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        layers = [agree(as_positions(s), as_positions(t)) for s, t in pairs(student, teacher)]
        if len(layers) < 2:
            raise SignalMissing(f"kdsvd relates each layer to the next, found {len(layers)} layer; name two or more.")
        directions = [weighted_directions(*layer, count=self.count) for layer in layers]
        total = [
            (relation(s, next_s, beta=self.beta) - relation(t, next_t, beta=self.beta)).square().sum((1, 2, 3))
            for (s, t), (next_s, next_t) in pairwise(directions)
        ]
        return torch.stack(total).sum(0)
