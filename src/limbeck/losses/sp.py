r"""Similarity-preserving distillation: what looks alike to the teacher stays alike.

.. math:: \sum_l \frac{1}{b^2} \left\| G^s_l - G^t_l \right\|_F^2

where row i of :math:`G` is :math:`\tilde G_{i} / \|\tilde G_{i}\|_2` and :math:`\tilde G = Q Q^T` the inner products of the b
flattened examples of the batch.

torchdistill divides each row by the sum of its absolute values instead (`variant: torchdistill`), a value smaller by a factor of about b,
which is not the paper's.

When to use: the two architectures have little in common: only which examples of a batch are alike is compared. Wants batches that are
not tiny.

Cost: of order b^2 D for b examples of D elements, in memory `chunk` b; no parameters.

Reference: Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv:1907.09682, equations 1 to 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.geometry import gram, unit
from ..ops.slices import in_slices
from ..types import Needs, PositiveInt, Signals
from .base import Loss, pairs


def similarity_gap(student: Tensor, teacher: Tensor, *, order: int, chunk: int) -> Tensor:
    """Mean squared difference of the row-normalised similarities, two tensors `(batch, ...)` to a scalar.

    Args:
        student: one feature.
        teacher: likewise; only the batch must be the same.
        order: which length the rows are divided by: 2, Euclidean, or 1, the sum of the absolute values.
        chunk: number of rows that are held in memory at once.
    """

    def part(student: Tensor, teacher: Tensor, rows: slice) -> Tensor:
        return (unit(gram(student, rows), order=order) - unit(gram(teacher, rows), order=order)).square().sum()

    batch = len(student)
    return torch.stack(in_slices(part, student, teacher, size=batch, chunk=chunk)).sum() / batch**2


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SP(Loss):
    """Compares how the examples of a batch relate, over one or more layers; shapes need not agree."""

    variant: Literal["paper", "torchdistill"] = "paper"
    """The paper's formula, or that of torchdistill."""
    chunk: PositiveInt = 1024
    """Number of examples whose similarities are held in memory at once; it does not change the value."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="any", global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        order = 2 if self.variant == "paper" else 1
        return torch.stack([similarity_gap(*pair, order=order, chunk=self.chunk) for pair in pairs(student, teacher)]).sum()
