r"""Knowledge concentration: a specialist that fades as the student matches it.

.. math:: \lambda \, T^2 KL\left(softmax(z^t / T) \,\|\, softmax(z^s / T)\right), \qquad
          \lambda = 1 - e^{-m / \delta}, \quad m \leftarrow a \, m + (1 - a) \, \overline{KL}

where m is the running mean of the divergence that is weighted, without :math:`T^2`, and :math:`\delta` the divergence at which the student
counts as matching: :math:`\lambda` is near 1 while it is far from the specialist and falls to 0 with the divergence. Each term has its
own: a recipe with one term for each specialist (`from`) and its classes (the target `only_classes`) paces each by itself. At the first
update :math:`\lambda` is 1, and m is the first divergence after it.

The paper was not read, and there is no official code: that the weight falls as the student matches is the paper's as far as it
is known, the rule is one chosen here. Its sparse last layers are no part of this loss.

When to use: several specialists for a student that is to know all their classes, beside a term with the labels.

Cost: as `kd`; no parameters, two numbers of state.

Reference: Gao et al., "Knowledge Concentration: Learning 100K Object Classifiers in a Single CNN", 2017, arXiv:1711.07607.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ..types import Fraction, Needs, Positive, Signals
from .base import Loss, logit_pair, logits_of
from .kd import softened_kl


def pace(mean: Tensor, *, scale: float) -> Tensor:
    """Weight between 0 and 1 of a specialist whose mean divergence from the student is `mean`."""
    return -torch.expm1(-mean / scale)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class KnowledgeConcentration(Loss):
    """Hinton's distillation from a specialist, with a weight of its own that decays as the student matches it."""

    exempt: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("gradcheck", "compile"), "each call with a gradient moves the running mean, which the next call reads"
    )

    temperature: Positive = 2.0
    """Softmax temperature T of both models."""
    scale: Positive = 0.1
    """Divergence at which the weight has fallen to 1 - 1/e, about 0.63."""
    momentum: Fraction = 0.95
    """Share a of the old mean that is kept at each update."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",), global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        self.mean = nn.Buffer(torch.full((), torch.inf, device=logits_of(student).device))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        value = softened_kl(*logit_pair(student, teacher), temperature=self.temperature).mean()
        weighted = pace(self.mean, scale=self.scale) * self.temperature**2 * value
        if self.training and value.requires_grad:
            now = value.detach()
            kept = torch.where(self.mean.isfinite(), self.mean, now)
            self.mean.copy_(self.momentum * kept + (1 - self.momentum) * now)
        return weighted
