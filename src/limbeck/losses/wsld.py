r"""Weighted soft labels: a soft label counts less where the student needs it less.

.. math:: \left(1 - \exp\left(-\frac{L^s}{L^t + \epsilon}\right)\right) \left(-T^2 \sum_k p_k \log q_k\right)

where p and q are the probabilities of teacher and student at temperature T, and :math:`L^s`, :math:`L^t` the cross-entropies of both
with the label at temperature 1. The weight in front is a constant to the gradient. The small :math:`\epsilon` = 1e-7, for teachers
that are wholly sure, is that of the authors' code.

When to use: labelled images and a teacher that is right about most of them; where the student is already surer of the label than the
teacher, soft labels add bias, and are turned down there. The paper uses a term weight of 2.25 on CIFAR-100, of 2.5 at T = 2 on ImageNet.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective", ICLR 2021,
arXiv:2102.00650, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..types import Needs, Positive, Signals
from .base import Loss, logit_pair, required
from .cross_entropy import smoothed_cross_entropy
from .soft_cross_entropy import softened_cross_entropy


def need_of_soft_labels(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """The weight of every example, from 0 to 1; `(..., classes)` and class indices `(...)` to `(...)`.

    It is 0 where the label is -100, and gives no gradient.
    """
    ours, theirs = (smoothed_cross_entropy(logits.detach(), labels, label_smoothing=0.0) for logits in (student, teacher))
    return 1 - (-ours / (theirs + 1e-7)).exp()


@final
@dataclass(eq=False, repr=False, kw_only=True)
class WSLD(Loss):
    """Cross-entropy with soft labels, example by example weighted by how much worse than the teacher the student does on the label."""

    exempt: ClassVar = {
        "equality": "a cross-entropy is at least the entropy of what the teacher says",
        "gradcheck": "the weight of an example is a constant to the gradient",
    }

    temperature: Positive = 4.0
    """Softmax temperature T of the soft labels."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = logit_pair(student, teacher)
        value = softened_cross_entropy(ours, theirs, temperature=self.temperature, factor=self.temperature**2)
        return need_of_soft_labels(ours, theirs, required(labels)) * value
