r"""Normalised distillation: the label's probability and the other classes apart.

.. math:: -p_y \log q_y - \gamma \, T^2 \sum_{k \neq y} \hat p_k \log \hat q_k

where p and q are the probabilities of teacher and student at temperature 1, y the label, and :math:`\hat p`, :math:`\hat q` the softmax
over the other classes at temperature T. Both models' other classes so have the same sum, and can become equal. The cross-entropy
with the labels, which the paper adds, is a term of its own.

When to use: labelled images, where `dkd` would also do; the label's own share follows the teacher's confidence, so that there is one
weight to choose. The paper has T = 1 and :math:`\gamma` = 1.5 on ImageNet (the authors' code 1 between transformers), and 3.5 at T = 3 on
CIFAR-100, with a label term as strong.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and Customized
Soft Labels", ICCV 2023, arXiv:2303.13005, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..ops.classes import at_label, known_labels, without_label
from ..ops.divergence import cross_entropy, log_softmax
from ..ops.precision import widen
from ..types import Needs, NonNegative, Positive, Signals
from .base import Loss, logit_pair, required


def normalized_cross_entropies(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy on the label, and on the other classes at `temperature`; `(..., classes)` and class indices `(...)`, each to `(...)`.

    Both are 0 where the label is -100.
    """
    known, index = known_labels(labels)
    student, teacher = widen(student), widen(teacher)
    target = -at_label(teacher.softmax(-1), index) * at_label(log_softmax(student), index)
    others = cross_entropy(without_label(teacher, index) / temperature, without_label(student, index) / temperature)
    return target * known, others * known


@final
@dataclass(eq=False, repr=False, kw_only=True)
class NKD(Loss):
    """The label counts as much as the teacher is sure of it; the other classes are normalised to a distribution of their own."""

    exempt: ClassVar = {"equality": "both parts are cross-entropies, which are at least the entropy of what the teacher says"}

    gamma: NonNegative = 1.5
    """Weight of the term on the other classes."""
    temperature: Positive = 1.0
    """Softmax temperature T of the term on the other classes."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        target, others = normalized_cross_entropies(*logit_pair(student, teacher), required(labels), temperature=self.temperature)
        return target + self.gamma * self.temperature**2 * others
