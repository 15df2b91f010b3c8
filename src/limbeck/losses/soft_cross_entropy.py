r"""Cross-entropy with the teacher's softened probabilities in place of labels.

.. math:: -T^2 \sum_k p_k \log q_k, \qquad p = softmax(z^t / T), \quad q = softmax(z^s / T)

It has the gradient of `kd` and a value that is larger by the entropy of the teacher, the least that it can reach. At T = 1, as in
MEAL V2, the teacher's probabilities are the labels as they are.

When to use: the log is to be compared with that of recipes that report a soft cross-entropy; else `kd`, whose value tells how far the
student is from its teacher.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2; without labels and
at T = 1: Shen, Savvides, "MEAL V2", 2020, arXiv:2009.08453, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..ops.precision import softened
from ..types import Needs, Positive, Signals
from .base import Loss, logit_pair


def softened_cross_entropy(student: Tensor, teacher: Tensor, *, temperature: float, factor: float = 1.0) -> Tensor:
    """Cross-entropy of the student with the teacher at `temperature`, times `factor`; `(..., classes)` to `(...)`."""
    # `ops.divergence.cross_entropy` also copes with classes of minus infinity, which classifiers do not have; that takes a tenth longer.
    return (softened(teacher, temperature).softmax(-1) * softened(student, temperature).log_softmax(-1)).sum(-1) * -factor


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SoftCrossEntropy(Loss):
    """What the teacher says of every class serves as the label."""

    exempt: ClassVar = {"equality": "a cross-entropy is at least the entropy of what the teacher says"}

    temperature: Positive = 1.0
    """Softmax temperature T of both models."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return softened_cross_entropy(*logit_pair(student, teacher), temperature=self.temperature, factor=self.temperature**2)
