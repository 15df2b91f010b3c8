r"""Binary cross-entropy of every label, for tasks with several labels an example.

.. math:: -\frac{1}{K} \sum_k y_k \log \sigma(z^s_k) + (1 - y_k) \log(1 - \sigma(z^s_k))

Supervised: it reads no teacher. The mean over the labels keeps its size independent of their number; a label that is NaN
counts as fitted already.

When to use: each example has any number of labels.

Cost: of order b K for b examples and K labels; no parameters.

Reference: Nam et al., "Large-scale Multi-label Text Classification - Revisiting Neural Networks", ECML PKDD 2014,
arXiv:1312.5419, equation 3 (there a sum over the labels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..ops.coins import coin_cross_entropy
from ..ops.precision import widen
from ..types import Needs, Signals
from .base import Loss, as_many, logits_of, required


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labels, `(batch, labels)` and targets in [0, 1] of the same shape to `(batch,)`."""
    return coin_cross_entropy(widen(logits), as_many(logits, labels)) / logits.shape[1]


@final
@dataclass(eq=False, repr=False, kw_only=True)
class BCE(Loss):
    """The usual supervised loss of multi-label classification."""

    exempt: ClassVar = {"shift": "every label has a sigmoid of its own, so the level of the logits carries meaning"}

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False, label_kinds=("multilabel",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return binary_cross_entropy(logits_of(student), required(labels))
