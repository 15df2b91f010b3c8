r"""Affinity distillation: positions resemble each other as the teacher's do.

.. math:: \left\| A^s - A^t \right\|_F, \qquad A_{xy} = \frac{1}{p} \frac{f_x^T f_y}{\|f_x\|_2 \|f_y\|_2}

where :math:`f_x` is the feature at position x, a vector over the channels, and p the number of positions.

torchdistill compares another quantity (`variant: torchdistill`): for each channel c, as a vector :math:`g_c` over the positions that is
divided by its length, :math:`\frac{1}{p} \| g^s_c {g^s_c}^T - g^t_c {g^t_c}^T \|_F`, summed over the channels. No matrix of p x p is
formed: for vectors u, v of length 1 the norm is :math:`\|u - v\|_2 \|u + v\|_2 / \sqrt 2`.

When to use: dense predictions, where which pixels belong together matters; channels may differ. Usually beside `kta`.

Cost: of order b p c min(c, p) for c channels, in memory b min(c, p)^2; torchdistill's b c p. No parameters.

Reference: He et al., "Knowledge Adaptation for Efficient Semantic Segmentation", CVPR 2019, arXiv:1903.04688, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.geometry import unit
from ..ops.gram_gap import gram_gap
from ..ops.layouts import as_positions
from ..types import Needs, Signals
from .base import Loss, agree


def affinity_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of the similarities between positions; two features of as many positions to `(batch,)`.

    Raises:
        ShapeMismatch: where the numbers of positions differ.
    """
    ours, theirs = (unit(as_positions(x).mT) for x in (student, teacher))
    if ours.shape[1] != theirs.shape[1]:
        raise ShapeMismatch(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} must have as many positions here; "
            "pick layers of one height and width or let an adapter resize the larger."
        )
    square = gram_gap(ours, theirs)  # mutate: equivalent swapped (symmetric)
    # The root has no slope at 0.
    nothing = square <= 0
    return square.masked_fill(nothing, 1).sqrt().masked_fill(nothing, 0) / ours.shape[1]  # mutate: equivalent constant (the 1 is masked)


def channel_affinity_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum over the channels of the distance of their outer products over the positions; two features of one shape to `(batch,)`.

    A vector counts as one channel.
    """
    ours, theirs = (unit(as_positions(x) if x.ndim > 2 else x[:, None]) for x in agree(student, teacher))
    near, far = torch.linalg.vector_norm(ours - theirs, dim=2), torch.linalg.vector_norm(ours + theirs, dim=2)
    # A channel of zeros has no direction; then the distance is the length of the other's product, 1 or 0.
    alone = (ours != 0).any(2) ^ (theirs != 0).any(2)
    return torch.where(alone, 1, near * far * 0.5**0.5).sum(1) / ours.shape[2]


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Affinity(Loss):
    """Matches how the positions of one layer relate, whatever they look like."""

    variant: Literal["paper", "torchdistill"] = "paper"
    """The paper's similarities of positions over all channels, or torchdistill's for each channel on its own."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="space" if self.variant == "paper" else "full")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        gap = affinity_gap if self.variant == "paper" else channel_affinity_gap
        return gap(student.feature, teacher.feature)  # mutate: equivalent swapped (symmetric)
