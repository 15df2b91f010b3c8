r"""Cross-entropy with the labels, optionally smoothed.

.. math:: -\sum_k q_k \log softmax(z^s)_k, \qquad q_k = (1 - \epsilon)\,[k = y] + \epsilon / K

Supervised: it reads no teacher. An example (or token) whose label is -100 has the value 0.

When to use: each example has one class; leave `label_smoothing` at 0 for a teacher: smoothing erases what it knows of the wrong
classes.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, arXiv:1512.00567,
section 7 (label smoothing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch.nn.functional as F
from torch import Tensor

from ..ops.precision import widen
from ..types import IGNORE, Fraction, Needs, Signals
from .base import Loss, logits_of, required
from .fused.measure import Measure


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
    """Cross-entropy of `(..., classes)` with class indices `(...)`, to `(...)`."""
    flat, target = (widen(logits), labels) if labels.ndim == 1 else (widen(logits).flatten(0, -2), labels.flatten())
    values = F.cross_entropy(flat, target, reduction="none", label_smoothing=label_smoothing, ignore_index=IGNORE)
    return values if labels.ndim == 1 else values.view(labels.shape)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class CrossEntropy(Loss):
    """The usual supervised loss of classification, per example or per token."""

    label_smoothing: Fraction = 0.0
    """Share of the probability that is spread evenly over all classes."""

    @property
    def measure(self) -> Measure | None:
        return Measure() if self.label_smoothing == 0 else None

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return smoothed_cross_entropy(logits_of(student), required(labels), label_smoothing=self.label_smoothing)
