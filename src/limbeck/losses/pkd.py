r"""Pearson distillation: maps agree up to the scale and offset of each channel.

.. math:: \sum_l \frac{1}{c} \sum_k \frac{1}{2 m} \left\| \hat s_{l,k} - \hat t_{l,k} \right\|_2^2
          \approx \sum_l \frac{1}{c} \sum_k (1 - r_{l,k})

where :math:`\hat s_{l,k}` holds the m values of channel k of layer l, at all positions of all examples of the batch, minus their mean and
divided by their standard deviation (plus `epsilon`), and r is Pearson's correlation of student and teacher. In the authors' code the
standard deviation is that of a sample, with m - 1, so that its value is smaller by the factor (m - 1) / m (`variant: official`).

When to use: detectors and other models of unlike kind, whose activations differ in scale; in place of `hint`, which spends itself on the
few channels with large values.

Cost: of order of the number of elements; no parameters of its own, an adapter makes the shapes agree.

Reference: Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient", NeurIPS 2022,
arXiv:2207.02039, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.layouts import as_positions
from ..types import Needs, Positive, Signals
from .base import Loss, agree, pairs


def pearson_gap(student: Tensor, teacher: Tensor, *, epsilon: float, correction: int) -> Tensor:
    """Half the mean squared difference of standardised channels, two features of one shape to a scalar.

    Args:
        student: map, tokens or vectors.
        teacher: likewise.
        epsilon: added to the standard deviations.
        correction: 0 for that of the values, 1 for that of a sample.
    """
    ours, theirs = (_standardised(x, epsilon, correction) for x in agree(student, teacher))
    return (ours - theirs).square().mean() / 2


def _standardised(feature: Tensor, epsilon: float, correction: int) -> Tensor:
    """`(channels, batch * positions)`."""
    rows = as_positions(feature).transpose(0, 1).flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    # The gradient of a length is 0 at 0, that of a standard deviation is not a number there.
    spread = torch.linalg.vector_norm(rows, dim=1, keepdim=True) / max(rows.shape[1] - correction, 1) ** 0.5
    return rows / (spread + epsilon)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class PKD(Loss):
    """Matches where in the batch each channel is strong or weak, over one or more layers; its scale and offset are free."""

    epsilon: Positive = 1e-6
    """Added to the standard deviations, so that a constant channel becomes 0."""
    variant: Literal["paper", "official"] = "paper"
    """The paper's formula, or the one of the authors' code with the standard deviation of a sample."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full", global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        correction = 1 if self.variant == "official" else 0
        layers = pairs(student, teacher)
        values = [pearson_gap(*layer, epsilon=self.epsilon, correction=correction) for layer in layers]
        return torch.stack(values).sum()
