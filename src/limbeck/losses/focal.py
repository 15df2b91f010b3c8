r"""Focal loss: the cross-entropy with less weight on what is already right.

.. math:: - w_y \, (1 - p_y)^\gamma \sum_k q_k \log p_k, \qquad q_k = (1 - \epsilon)\,[k = y] + \epsilon / K

where p are the student's probabilities, y the label and :math:`w_y` the weight of its class. Supervised: it reads no teacher. An example
whose label is -100 has the value 0. With :math:`\gamma = 0` and equal weights this is `cross_entropy`.

When to use: some classes are rare or many examples easy, as in medical images; to train a strong teacher. Its probabilities are less
extreme than those of the cross-entropy.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002, equation 5. With several classes and smoothed
labels as in Nourbakhsh et al., "KD-OCT: Efficient Knowledge Distillation for Clinical-Grade Retinal OCT Classification", 2025.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..types import IGNORE, Fraction, Needs, NonNegative, Signals
from .base import Loss, logits_of, required
from .cross_entropy import smoothed_cross_entropy


def focal_factor(hard: Tensor, *, gamma: float) -> Tensor:
    r""":math:`(1 - p_y)^\gamma` of the labels' cross-entropies :math:`-\log p_y`, of any shape."""
    wrong = -torch.expm1(-hard)
    if gamma == 0 or gamma >= 1:  # mutate: equivalent condition, comparison, constant (the other way is only slower)
        return wrong.pow(gamma)
    # A power below 1 has an infinite slope at 0, where nothing is left to learn.
    settled = wrong <= 0
    base = wrong.masked_fill(settled, 1.0)  # mutate: equivalent constant (its power is replaced)
    return base.pow(gamma).masked_fill(settled, 0)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Focal(Loss):
    """The supervised loss that looks away from what is right already, per example or per token."""

    gamma: NonNegative = 2.0
    """How fast the weight falls as the label becomes probable."""
    class_weights: Sequence[NonNegative] = ()
    """Weight of each class; equal where empty."""
    label_smoothing: Fraction = 0.0
    """Share of the probability that is spread evenly over all classes."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        logits, labels = logits_of(student), required(labels)
        hard = smoothed_cross_entropy(logits, labels, label_smoothing=0.0)
        smoothing = self.label_smoothing
        soft = hard
        if smoothing > 0:  # mutate: equivalent comparison (slower)
            soft = smoothed_cross_entropy(logits, labels, label_smoothing=smoothing)
        value = focal_factor(hard, gamma=self.gamma) * soft
        if not self.class_weights:
            return value
        if len(self.class_weights) != logits.shape[-1]:
            found = f"{len(self.class_weights)} weights for {logits.shape[-1]} classes"
            raise ShapeMismatch(f"focal: expected one of `class_weights` for every class, found {found}.")
        weights = torch.tensor(self.class_weights, dtype=value.dtype, device=value.device)
        return weights[labels.masked_fill(labels == IGNORE, 0)] * value
