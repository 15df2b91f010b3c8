r"""Minifinetuning: the teacher is corrected towards the label before it teaches.

.. math:: T^2 \, KL\left( (1 - m) \, p + m \, e_y \,\|\, q \right), \qquad p = softmax(z^t / T), \quad q = softmax(z^s / T)

where :math:`e_y` is the label's one-hot vector, and m is as large as it must be for the label to win by the margin :math:`\theta` (the
`threshold`): where the teacher prefers another class k, :math:`m = (p_k - p_y + \theta) / (1 + p_k - p_y)`; where it is right, its
:math:`p_y` is raised by :math:`\theta`, at most to 1, with :math:`m = (\min(p_y + \theta, 1) - p_y) / (1 - p_y)`.

When to use: a model is adapted to little data of a new domain and shall not forget what else it knows: the teacher is the model
itself before. In place of `kd` beside cross-entropy, where the teacher is often wrong.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Belcak et al., "Minifinetuning: Low-Data Generation Domain Adaptation through Corrective Self-Distillation", 2025,
arXiv:2506.15702; the second case is that of NVIDIA's Model-Optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ..ops.classes import at_label, known_labels
from ..ops.divergence import log_softmax, relative_entropy
from ..ops.precision import widen
from ..types import Fraction, Needs, Positive, Signals
from .base import Loss, logit_pair, required


def corrected(probabilities: Tensor, labels: Tensor, *, threshold: float) -> Tensor:
    """The distributions `(..., classes)` in which the labels `(...)`, which must all be valid, win by `threshold`."""
    own, (best, first) = at_label(probabilities, labels), probabilities.max(-1)
    wrong = (best - own + threshold) / (1 + best - own + 1e-7)
    right = ((own + threshold).clamp_max(1) - own) / (1 - own + 1e-7)
    mixed = torch.where(first == labels, right, wrong).unsqueeze(-1)
    return ((1 - mixed) * probabilities).scatter_add(-1, labels.unsqueeze(-1), mixed)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class MFT(Loss):
    """Follows the teacher, of whom every answer was first made right."""

    exempt: ClassVar = {"equality": "the corrected teacher is another than the teacher"}

    temperature: Positive = 1.0
    """Softmax temperature T of both models."""
    threshold: Fraction = 0.2
    """Margin by which the label must win."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = (widen(logits) / self.temperature for logits in logit_pair(student, teacher))
        known, index = known_labels(required(labels))
        target = corrected(theirs.softmax(-1), index, threshold=self.threshold)
        values = relative_entropy(target.log(), log_softmax(ours))
        return self.temperature**2 * values.masked_fill(~known, 0)
