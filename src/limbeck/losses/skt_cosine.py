r"""Structured knowledge transfer within layers: cosine distance, pixel by pixel.

.. math:: \sum_l \sum_p \left[ 1 - \frac{\langle \varphi_l(s_l)_p, (t_l)_p \rangle}{\|\varphi_l(s_l)_p\| \, \|(t_l)_p\|} \right]

over the layers l and the positions p of a map, where :math:`\varphi_l` is a learned 1x1 convolution with ReLU to the teacher's channels;
where the student has as many already, it is the identity. It is a sum: the value grows with the size of the maps. Where one of the
vectors is zero its distance is 1, and 0 where both are.

When to use: dense regression such as crowd counting, where every pixel counts and features are matched at many depths; beside
`skt_dense_fsp`, each with weight 0.5 (the authors train with batches of one large image). `cosine` is the mean, without layers that learn.

Cost: of order of the number of elements; a 1x1 convolution a layer where the channels differ.

Reference: Liu et al., "Efficient Crowd Counting via Structured Knowledge Transfer", ACM MM 2020, arXiv:2003.10120, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..ops.geometry import unit
from ..types import Needs, Signals
from ._projection import Projections
from .base import Loss, agree


def pixel_cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over the positions of two maps `(batch, channels, height, width)`, to `(batch,)`."""
    student, teacher = agree(student, teacher)
    # Half the squared distance of the directions is 1 - cos, without cancellation where they are close.
    gaps = (unit(student, dim=1) - unit(teacher, dim=1)).square().sum((1, 2, 3)) / 2
    lonely = (student != 0).any(1) != (teacher != 0).any(1)  # one of two vectors is zero: the distance above is 1/2 there
    return gaps + lonely.sum((1, 2)) / 2


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SKTCosine(Loss):
    """Sum of the cosine distances of all positions of one or more layers; it learns to match the teacher's channels."""

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
        return torch.stack([pixel_cosine_distance(s, t) for s, t in self.projections(student, teacher)]).sum(0)
