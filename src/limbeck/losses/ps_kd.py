r"""Progressive self-distillation: targets from the student's own past.

.. math:: - \sum_c \left[ (1 - \alpha) \, [c = y] + \alpha \, p^{past}_c \right] \log softmax(z^s)_c

where :math:`p^{past}` is what the student said of the same example when it last saw it, one epoch ago; where it has not seen it yet, the
label. The paper lets :math:`\alpha` grow from 0 to 0.8 over the training: `alpha: {schedule: linear, start: 0, end: 0.8}`.

When to use: there is no teacher, and the student is to be calibrated as well as accurate. Its state moves at every call in training with
a gradient, and stands still otherwise.

Cost: of order b C for b examples and C classes; no parameters, but a memory of C numbers for each example of the data set.

Reference: Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV 2021, arXiv:2006.12000, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ..errors import LimbeckError
from ..ops.divergence import log_softmax
from ..ops.precision import widen
from ..types import IGNORE, Fraction, Needs, Signals
from .base import Loss, extra_of, logits_of, required


def refined_targets(past: Tensor, labels: Tensor, *, alpha: Tensor) -> Tensor:
    """Labels mixed with past predictions `(batch, classes)`, which have the shares `alpha`, `(batch, 1)`; of use where there is a label."""
    return (alpha * past).scatter_add_(1, labels.clamp_min(0).unsqueeze(1), 1 - alpha)


def refined_cross_entropy(student: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with soft targets, `(batch, classes)` to `(batch,)`."""
    return -(targets * log_softmax(student)).sum(1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class PSKD(Loss):
    """The student is its own teacher, one epoch late; the mean over the labelled examples."""

    exempt: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("gradcheck", "compile"), "each call with a gradient keeps the predictions, which the next call reads"
    )
    teaches: ClassVar[bool] = True

    alpha: Fraction = 0.8
    """Share of the past prediction in the target; meant to be scheduled from 0 upwards."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._examples = 0

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False, extra=("index",), label_kinds=("class",), global_batch=True)

    def allocate(self, examples: int) -> None:
        self._examples = examples

    def setup(self, student: Signals, teacher: Signals) -> None:
        if self._examples == 0:
            raise LimbeckError("PSKD keeps a prediction of every example; call allocate(examples) before setup.")
        logits = logits_of(student)
        self.past = nn.Buffer(torch.zeros(self._examples, logits.shape[1], device=logits.device))
        self.seen = nn.Buffer(torch.zeros(self._examples, dtype=torch.bool, device=logits.device))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        logits, labels, rows = logits_of(student), required(labels), extra_of(student, "index")
        known = labels != IGNORE
        alpha = self.alpha * self.seen[rows].unsqueeze(1).to(self.past.dtype)
        targets = refined_targets(self.past.index_select(0, rows), labels, alpha=alpha)
        value = (refined_cross_entropy(logits, targets) * known).sum() / known.sum().clamp_min(1)
        if self.training and logits.requires_grad:
            self.past.index_copy_(0, rows, widen(logits.detach()).softmax(1).to(self.past.dtype))
            self.seen.index_fill_(0, rows, True)
        return value
