r"""Norm and direction: features grow along the class means of the teacher.

.. math:: \frac{1}{b} \sum_i \left[ 1 - \frac{\langle s_i, c_{y_i} \rangle}{\|c_{y_i}\|_2 \, \max(\|s_i\|_2, \|t_i\|_2)} \right]

where :math:`c_k` is the mean of the teacher's features of class k. While s is shorter than t the term lengthens it and turns it to the
class mean; where it is longer, only the direction counts. Maps and tokens are averaged over their positions, and the paper's projector
(batch norm, dropout, linear) is the term's adapter.

The paper takes the class means in a pass over the training set. Here they are the means over the batches seen so far, of which the
current one is a part, so that a class has a mean from its first example on; a teacher that stands still gives the paper's means after
one epoch. `observe` takes them in advance.

When to use: labelled images, beside a loss on logits (the authors add it to KD, DKD, DIST and ReviewKD), with weights of 1 to 2. The
teacher must have a linear classifier, from which the number of classes is read.

Cost: of order b times channels; a table of classes times channels is kept with the loss, no parameters.

Reference: Wang et al., "Improving Knowledge Distillation via Regularizing Feature Norm and Direction", 2023, arXiv:2305.17007,
section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ..ops.geometry import unit
from ..ops.layouts import as_positions, pooled
from ..types import IGNORE, Needs, Signals
from .base import Loss, agree, head_of, required


def norm_direction(student: Tensor, teacher: Tensor, labels: Tensor, *, means: Tensor) -> Tensor:
    """One less the student's part along its class mean, in units of the longer of the two features.

    Args:
        student: `(batch, channels)`.
        teacher: `(batch, channels)`.
        labels: `(batch,)`; where it is -100, the value is 0.
        means: of the teacher's features, `(classes, channels)`.

    Returns:
        `(batch,)`, from 0 to 2.
    """
    student, teacher = agree(student, teacher)
    known = labels != IGNORE
    direction = unit(means)[labels.masked_fill(~known, 0)]
    ours, theirs = (torch.linalg.vector_norm(x, dim=1) for x in (student, teacher))
    length = torch.where(ours >= theirs, ours, theirs)
    return (1 - (student * direction).sum(1) / length.masked_fill(length == 0, math.inf)) * known


@final
@dataclass(eq=False, repr=False, kw_only=True)
class NDLoss(Loss):
    """Pulls features to the teacher's class means and lets them grow to the teacher's length; the mean over the labelled examples."""

    exempt: ClassVar = {"equality": "the student is pulled to the means of the classes, where the teacher itself is not"}

    @property
    def needs(self) -> Needs:
        return Needs(features="one", labels=True, head="teacher", label_kinds=("class",), global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes the table of class means."""
        features, classes = as_positions(teacher.feature), len(head_of(teacher).weight)
        self.means: Tensor
        self.seen: Tensor
        self.register_buffer("means", features.new_zeros(classes, features.shape[1]))
        self.register_buffer("seen", features.new_zeros(classes))

    @torch.no_grad()
    def observe(self, teacher: Tensor, labels: Tensor) -> None:
        """Takes further features of the teacher, `(batch, channels)`, into the means of their classes."""
        known = labels != IGNORE
        index = labels.masked_fill(~known, 0)
        added = torch.zeros_like(self.seen).index_add(0, index, known.to(self.seen.dtype))
        sums = torch.zeros_like(self.means).index_add(0, index, (teacher * known[:, None]).to(self.means.dtype))
        self.seen.add_(added)
        share = (added / self.seen.clamp_min(1)).unsqueeze(1)
        self.means.add_(share * (sums / added.clamp_min(1).unsqueeze(1) - self.means))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        labels = required(labels)
        ours, theirs = (pooled(x.feature) for x in (student, teacher))
        if self.training:
            self.observe(theirs, labels)
        values = norm_direction(ours, theirs, labels, means=self.means)
        return values.sum() / (labels != IGNORE).sum().clamp_min(1)
