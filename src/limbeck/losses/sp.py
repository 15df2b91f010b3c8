r"""Similarity-preserving distillation: what looks alike to the teacher stays alike.

.. math:: \sum_l \frac{1}{b^2} \left\| G^s_l - G^t_l \right\|_F^2

where row i of :math:`G` is :math:`\tilde G_{i} / \|\tilde G_{i}\|_2` and :math:`\tilde G = Q Q^T` the inner products of the b
flattened examples of the batch.

When to use: the two architectures have little in common: only which examples of a batch are alike is compared. Wants batches that are
not tiny.

Cost: of order b^2 D for b examples of D elements, in memory b^2; no parameters.

Reference: Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv:1907.09682, equations 1 to 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..ops.geometry import gram, unit
from ..types import Needs, Signals
from .base import Loss, pairs


def similarity_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the row-normalised similarities, two tensors `(batch, ...)` to a scalar."""
    return (unit(gram(student)) - unit(gram(teacher))).square().mean()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SP(Loss):
    """Compares how the examples of a batch relate, over one or more layers; shapes need not agree."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="any", global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return torch.stack([similarity_gap(*pair) for pair in pairs(student, teacher)]).sum()
