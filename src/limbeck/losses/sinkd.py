r"""Sinkhorn distance between the batch's predictions of both models.

.. math:: \frac{1}{b} \sum_{ij} \Pi_{ij} W_{ij}, \qquad W_{ij} = \left\| p^s_i - p^t_j \right\|_1

where :math:`p = softmax(z / T)` and :math:`\Pi` is :math:`\exp(-W / \epsilon)` after alternate division by the sums of its rows and its
columns: the cheapest way, up to the entropy that :math:`\epsilon` asks for, to turn the b predictions of the student into those
of the teacher. Unlike KL it stays bounded where the two have no class in common. Equal predictions cost a little, since the plan mixes
examples whose predictions are close.

The authors' code sums instead of taking the mean, and multiplies by 0.001 (`variant: official`). Its training script never adds this term
(the branch asks for another name); the paper adds it with the weight 0.8 to 0.9 KD and 0.1 cross-entropy.

When to use: beside `kd`, for text classifiers with few classes or models whose predictions hardly overlap; batches of 16 or more.

Cost: of order b^2 (C + rounds) for b examples and C classes, in memory b^2 and, on its way back, `chunk` b C; no parameters.

Reference: Cui et al., "Sinkhorn Distance Minimization for Knowledge Distillation", COLING 2024, arXiv:2402.17110, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from annotated_types import Ge
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..ops.precision import widen, without_autocast
from ..ops.sinkhorn import transport_plan
from ..types import Needs, Positive, PositiveInt, Signals
from .base import Loss, logit_pair


def prediction_costs(student: Tensor, teacher: Tensor, *, temperature: float, chunk: int) -> Tensor:
    """Sums of the absolute differences of all pairs of predictions, two `(batch, classes)` to `(batch, batch)`, each at most 2.

    The rows of `chunk` examples of the student are compared at once; where that is less than the batch, they are compared again in the
    backward pass.
    """
    ours, theirs = ((widen(logits) / temperature).softmax(1) for logits in (student, teacher))

    def part(rows: Tensor, theirs: Tensor) -> Tensor:
        return torch.cdist(rows, theirs, p=1.0)

    with without_autocast(ours):
        if len(ours) <= chunk:
            return part(ours, theirs)
        parts: list[Tensor] = [checkpoint(part, rows, theirs, use_reentrant=False) for rows in ours.split(chunk)]  # pyright: ignore[reportAssignmentType]
        return torch.cat(parts)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SinKD(Loss):
    """Compares the predictions of a whole batch as two clouds of points, by what it costs to move one onto the other."""

    exempt: ClassVar[Mapping[str, str]] = {"equality": "the entropy mixes examples with close predictions, which then cost something"}

    temperature: Positive = 2.0
    """Softmax temperature T of both models."""
    epsilon: Annotated[float, Ge(0.05)] = 0.1
    """Weight of the entropy; below 0.05 its exponentials would leave the range of float32."""
    rounds: PositiveInt = 20
    """How often rows and columns are normalised."""
    chunk: PositiveInt = 256
    """Number of the student's predictions that are compared with all others at once; it does not change the value."""
    variant: Literal["paper", "official"] = "paper"
    """The mean over the examples, or a thousandth of their sum as in the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",), global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = (logits.flatten(0, -2) for logits in logit_pair(student, teacher))
        costs = prediction_costs(ours, theirs, temperature=self.temperature, chunk=self.chunk)
        total = (transport_plan(costs, epsilon=self.epsilon, rounds=self.rounds) * costs).sum()
        return total / len(costs) if self.variant == "paper" else 0.001 * total
