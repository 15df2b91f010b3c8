r"""Masked-autoencoder distillation: directions of tokens agree, element by element.

.. math:: \sum_l \frac{1}{N D} \sum_{n,d} \left| \frac{s_{l,n,d}}{\|s_{l,n}\|_2} - \frac{t_{l,n,d}}{\|t_{l,n}\|_2} \right|

over the N tokens of layer l with D channels each, the student's mapped by the term's adapter; squares in place of absolute values with
`distance: l2`. In the paper it stands beside the masked autoencoder's own loss on pixels (`ops.patches.patch_error`, averaged over the
masked patches) with weight 1, and both models see the same visible patches, so that the teacher only runs up to the layer that is
compared. The authors' code leaves the division by the length away where the term has no adapter; here it is always done.

When to use: to pretrain a small vision transformer from a large masked autoencoder; a block at three quarters of the depth of both is the
authors' choice.

Cost: of order of the number of elements; no parameters of its own, the projection is the term's adapter.

Reference: Bai et al., "Masked Autoencoders Enable Efficient Knowledge Distillers", CVPR 2023, arXiv:2208.12256, equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.geometry import unit
from ..ops.reduce import example_mean
from ..types import Needs, Signals
from .base import Loss, agree, pairs


def direction_gap(student: Tensor, teacher: Tensor, *, distance: Literal["l1", "l2"]) -> Tensor:
    """Mean difference of the directions, two features `(batch, ...)` of one shape to `(batch,)`; channels are dimension 1 of maps."""
    student, teacher = agree(student, teacher)
    dim = 1 if student.ndim > 3 else -1
    gap = unit(student, dim=dim) - unit(teacher, dim=dim)
    return example_mean(gap.abs() if distance == "l1" else gap.square())


@final
@dataclass(eq=False, repr=False, kw_only=True)
class DMAE(Loss):
    """Matches the direction of every token of one or more layers; lengths are free."""

    distance: Literal["l1", "l2"] = "l1"
    """Absolute or squared differences."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return torch.stack([direction_gap(*pair, distance=self.distance) for pair in pairs(student, teacher)]).sum(0)
