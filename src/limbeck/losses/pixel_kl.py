r"""Pixel-wise distillation: class probabilities agree at every position of a map.

.. math:: T^2 \, KL\left( p^s_i \,\|\, p^t_i \right) \text{ at every position } i, \qquad p_i = softmax(x_i / T)

of the C classes (or channels) at position i; their mean over the positions is taken with the mean over the examples. In this order, student
first, the paper writes it. The authors' code, and most who build on it, take :math:`KL(p^t_i \| p^s_i)` (`variant: official`), less the
teacher's entropy, which has no gradient, and sum it over the batch. The paper has no temperature.

When to use: the plain baseline of dense prediction, on maps of logits (no layers named) or on feature maps. `variant: official` asks the
student for all that the teacher holds possible, the paper's order only not to say what it holds impossible.

Cost: of order of the number of elements; no parameters of its own.

Reference: Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019, arXiv:1903.04197, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch.nn.functional as F
from torch import Tensor

from ..ops.precision import softened
from ..types import Needs, Positive, Signals
from .base import Loss, agree, pairs


def pixel_divergence(p_logits: Tensor, q_logits: Tensor, *, temperature: float) -> Tensor:
    """KL(p || q) at every position, times the squared temperature.

    Args:
        p_logits: `(batch, classes, height, width)`, `(batch, tokens, classes)` or `(batch, classes)`.
        q_logits: of the same shape.
        temperature: of both.

    Returns:
        The shape without its classes.
    """
    p_logits, q_logits = agree(p_logits, q_logits)
    dim = 1 if p_logits.ndim > 3 else -1
    log_p, log_q = (softened(x, temperature).log_softmax(dim) for x in (p_logits, q_logits))
    return temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class PixelKL(Loss):
    """Compares what is seen at every position, on maps of logits, or on features where the term names layers."""

    temperature: Positive = 1.0
    """Softmax temperature T of both models."""
    variant: Literal["paper", "official"] = "paper"
    """The paper's order, the teacher from the student, or that of the authors' code, the student from the teacher."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="optional")

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = pairs(student, teacher)[0]
        first, second = (ours, theirs) if self.variant == "paper" else (theirs, ours)
        return pixel_divergence(first, second, temperature=self.temperature)
