r"""Probabilistic knowledge transfer: examples meet each other as for the teacher.

.. math:: \frac{1}{b} \sum_i \sum_{j \ne i} p_{j|i} \log \frac{p_{j|i}}{q_{j|i}}, \qquad
          p_{j|i} = \frac{K(t_i, t_j)}{\sum_{k \ne i} K(t_i, t_k)}, \quad K(x, y) = \tfrac{1}{2} (1 + \cos(x, y))

where q is p of the student's features. The paper sums over the b examples; the mean is taken here, as of every loss. K has a floor of 1e-7,
so that features of opposite direction do not make the loss infinite.

The authors' code keeps the pairs of an example with itself, takes the mean over all :math:`b^2` pairs, and adds 1e-7 to lengths and
probabilities (`variant: official`). Its value is about :math:`b` times smaller; the weight of 30000 that is quoted for this loss belongs
to it.

When to use: embeddings for retrieval or classification whose dimensions differ: only who is near whom counts, and no adapter learns.

Cost: of order b^2 D for b examples of D elements, in memory `chunk` b; no parameters.

Reference: Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018, arXiv:1803.10837,
equations 4 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.geometry import unit
from ..ops.precision import widen, without_autocast
from ..ops.slices import in_slices
from ..types import Needs, PositiveInt, Signals
from .base import Loss


def neighbour_kl(student: Tensor, teacher: Tensor, *, floor: float, chunk: int) -> Tensor:
    """Mean divergence between the probabilities of the other examples; two tensors `(batch, ...)` to a scalar, 0 for a batch of one.

    Args:
        student: one feature.
        teacher: likewise; only the batch must be the same.
        floor: smallest similarity.
        chunk: number of examples whose similarities are held in memory at once.
    """
    batch = len(student)
    numbers = torch.arange(batch, device=student.device)

    def part(student: Tensor, teacher: Tensor, rows: slice) -> Tensor:
        others = numbers[rows, None] != numbers

        def log_probabilities(directions: Tensor) -> Tensor:
            kernel = _similarities(directions, rows).clamp_min(floor)
            # At least one other example is as near as the floor; where there is none, the total must not be 0.
            total = (kernel * others).sum(1, keepdim=True).clamp_min(floor)
            return kernel.log() - total.log()

        return (F.kl_div(log_probabilities(student), log_probabilities(teacher), reduction="none", log_target=True) * others).sum()

    directions = (unit(x.flatten(1)) for x in (student, teacher))
    return torch.stack(in_slices(part, *directions, size=batch, chunk=chunk)).sum() / batch


def explicit_neighbour_kl(student: Tensor, teacher: Tensor, *, floor: float, chunk: int) -> Tensor:
    """The quantity of the authors' code, with its arithmetic: `floor` is added to lengths and probabilities."""

    def part(student: Tensor, teacher: Tensor, rows: slice) -> Tensor:
        ours, theirs = (_similarities(x, rows) for x in (student, teacher))
        ours, theirs = (x / x.sum(1, keepdim=True) for x in (ours, theirs))
        return (theirs * ((theirs + floor) / (ours + floor)).log()).sum()

    batch = len(student)
    rows = (widen(x).flatten(1) for x in (student, teacher))
    directions = (x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + floor) for x in rows)
    return torch.stack(in_slices(part, *directions, size=batch, chunk=chunk)).sum() / batch**2


def _similarities(directions: Tensor, rows: slice) -> Tensor:
    with without_autocast(directions):
        return (directions[rows] @ directions.T + 1) / 2


@final
@dataclass(eq=False, repr=False, kw_only=True)
class PKT(Loss):
    """Compares which examples of a batch are near each other, as probabilities; shapes need not agree."""

    variant: Literal["paper", "official"] = "paper"
    """The paper's formula, or that of the authors' code."""
    chunk: PositiveInt = 1024
    """Number of examples whose similarities are held in memory at once; it does not change the value."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any", global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        divergence = neighbour_kl if self.variant == "paper" else explicit_neighbour_kl
        return divergence(student.feature, teacher.feature, floor=1e-7, chunk=self.chunk)
