r"""Distillation of labels that do not exclude each other: one coin a label.

.. math:: \frac{T^2}{K} \sum_k KL\left(B(\sigma(z^t_k / T)) \,\|\, B(\sigma(z^s_k / T))\right)

where B(p) is the Bernoulli distribution of a label that is present with probability p, and K the number of labels. The paper sums over
the labels, in this term as in the binary cross-entropy beside it, and has no temperature; the mean keeps the ratio to
`bce`, which takes it too.

When to use: each example has any number of labels; a softmax, as in `kd`, would set them against each other. It needs no labels, so
unlabelled examples teach as well. `mse` matches logits instead, which also asks for those that the sigmoid hides.

Cost: of order b K for b examples and K labels; no parameters.

Reference: Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023, arXiv:2308.06453, section 3 (multi-label logits distillation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..ops.divergence import bernoulli_kl
from ..ops.precision import widen
from ..types import Needs, Positive, Signals
from .base import Loss, logit_pair


def softened_bernoulli_kl(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Mean over the labels of the divergence at `temperature`; `(..., labels)` to `(...)`."""
    return bernoulli_kl(widen(teacher) / temperature, widen(student) / temperature).mean(-1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class BernoulliKD(Loss):
    """Matches how probable the teacher holds every single label."""

    exempt: ClassVar = {"shift": "every label has a sigmoid of its own, so the level of the logits carries meaning"}

    temperature: Positive = 1.0
    """Temperature T of both models' sigmoids."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("multilabel",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return self.temperature**2 * softened_bernoulli_kl(*logit_pair(student, teacher), temperature=self.temperature)
