r"""Relational knowledge distillation: distances and angles between examples.

.. math:: \lambda_D \, \frac{1}{b^2} \sum_{ij} l(\psi^s_{ij}, \psi^t_{ij})
          + \lambda_A \, \frac{1}{b^3} \sum_{ijk} l(\cos \angle^s_{ijk}, \cos \angle^t_{ijk})

where :math:`\psi_{ij}` is the distance of examples i and j divided by its mean over the pairs of distinct examples,
:math:`\angle_{ijk}` the angle at j, and :math:`l` the Huber loss. The paper sums; the means are those of the authors' code.
For classification the paper uses the weights 25 and 50.

The toolbox mmrazor brings every embedding to length 1 first (`normalise: true`), which the paper leaves to the embedding itself.

When to use: what counts is the geometry of an embedding (retrieval, metric learning), whatever its dimension.

Cost: distances of order b^2 D for b examples of D elements, angles of order b^3, in memory `chunk` b^2; no parameters. Without
the angles (`angle_weight: 0`) it is cheaper.

Reference: Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068, equations 4 to 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.geometry import corners, pairwise_distances, unit, vertex_cosines
from ..ops.precision import widen
from ..ops.slices import in_slices
from ..types import Needs, NonNegative, PositiveInt, Signals
from .base import Loss


def distance_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean Huber loss between relative distances, two tensors `(batch, ...)` to a scalar."""

    def relative(features: Tensor) -> Tensor:
        distances = pairwise_distances(features)
        mean = distances.sum() / max(distances.numel() - len(distances), 1)  # mutate: equivalent constant (two examples have two)
        return distances / mean.masked_fill(mean == 0, math.inf)

    return F.smooth_l1_loss(relative(student), relative(teacher))


def angle_gap(student: Tensor, teacher: Tensor, *, chunk: int) -> Tensor:
    """Mean Huber loss between the cosines of all angles, two tensors `(batch, ...)` to a scalar.

    All angles at `chunk` examples are held in memory at once, of order `chunk * batch^2`; where that is less than the batch, they
    are computed again in the backward pass.
    """
    ours, theirs = corners(student), corners(teacher)

    def part(s: Tensor, s_reciprocals: Tensor, t: Tensor, t_reciprocals: Tensor, vertices: slice) -> Tensor:
        student, teacher = vertex_cosines(s, s_reciprocals, vertices), vertex_cosines(t, t_reciprocals, vertices)
        return F.smooth_l1_loss(student, teacher, reduction="none").sum()  # torch's own sum keeps the memory of all elements

    batch = len(student)
    return torch.stack(in_slices(part, *ours, *theirs, size=batch, chunk=chunk)).sum() / batch**3


@final
@dataclass(eq=False, repr=False, kw_only=True)
class RKD(Loss):
    """Compares the geometry of a batch in both embeddings; shapes need not agree."""

    distance_weight: NonNegative = 1.0
    """Weight of the distances; 0 leaves them out."""
    angle_weight: NonNegative = 2.0
    """Weight of the angles, whose cost grows with the third power of the batch; 0 leaves them out."""
    normalise: bool = False
    """Whether every embedding is brought to length 1 first."""
    chunk: PositiveInt = 8
    """Number of examples whose angles are held in memory at once; it does not change the value."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any", global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = student.feature, teacher.feature
        if self.normalise:
            ours, theirs = unit(ours.flatten(1)), unit(theirs.flatten(1))
        total = widen(ours.new_zeros(()))
        if self.distance_weight > 0:
            total = total + self.distance_weight * distance_gap(ours, theirs)  # mutate: equivalent swapped (symmetric)
        if self.angle_weight > 0:
            total = total + self.angle_weight * angle_gap(ours, theirs, chunk=self.chunk)  # mutate: equivalent swapped (symmetric)
        return total
