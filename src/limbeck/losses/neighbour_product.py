r"""Products of the errors of neighbouring examples, "CC" in collections for CIFAR.

.. math:: \frac{1}{b - 1} \sum_{i=1}^{b-1} \sum_d |s_{i,d} - t_{i,d}| \, |s_{i+1,d} - t_{i+1,d}|

for the embeddings s and t of b examples, each behind a linear layer of its own in these collections.

The collection RepDistiller computes this under the name of correlation congruence, whose paper compares kernel matrices (`cc`). It depends
on the order in which the examples stand in the batch, and is 0 where every other example is matched.

When to use: only to repeat numbers that were published for "CC" with that collection; else take `cc`.

Cost: of order b D for b examples of D elements; no parameters.

Reference: the code of Tian et al., "Contrastive Representation Distillation", ICLR 2020, arXiv:1910.10699, file distiller_zoo/CC.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch.nn.functional as F
from torch import Tensor

from ..ops.closed_form import closed_form
from ..ops.precision import widen
from ..types import Needs, Signals
from .base import Loss, agree


def neighbour_product(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over neighbouring examples of the inner product of their absolute errors, two tensors `(batch, ...)` to a scalar."""
    return closed_form(_products, widen(student), teacher) / max(len(student) - 1, 1)


def _products(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    gap = student - teacher
    errors = gap.abs()
    apart = F.pad(errors.flatten(1), (0, 0, 1, 1))
    around = (apart[:-2] + apart[2:]).view_as(gap)
    return (errors[:-1] * errors[1:]).sum(), around * gap.sign()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class NeighbourProduct(Loss):
    """Large where the same elements are wrong in neighbouring examples; 0 for a batch of one."""

    exempt: ClassVar[Mapping[str, str]] = {"permutation": "the quantity is about examples that follow each other in the batch"}

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="full", global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return neighbour_product(*agree(student.feature, teacher.feature))
