r"""Distillation of the old classes when new ones are added.

.. math:: - \sum_{c \le C_{old}} softmax(z^t / T)_c \, \log softmax(z^s_{1 \dots C_{old}} / T)_c

where the teacher is the model before the new classes came: it has :math:`C_{old}` outputs, and the student these first and then those of
the new classes. The softmax of the student is over the old classes only, so that the new ones are free. There is no factor :math:`T^2`.
The paper weighs this by the share of old classes :math:`\lambda = C_{old} / C` and the cross-entropy over all classes by
:math:`1 - \lambda`; both are weights of terms here.

When to use: a model is to learn further classes without forgetting; replay a few examples of the old ones. With as many classes on both
sides it is the cross-entropy with the teacher.

Cost: of order b C for b examples and C old classes; no parameters.

Reference: Zhao, Xiao, Gan, Zhang, Xia, "Maintaining Discrimination and Fairness in Class Incremental Learning", CVPR 2020,
arXiv:1911.07053, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..errors import ShapeMismatch
from ..types import Needs, Positive, Signals
from .base import Loss, logits_of
from .soft_cross_entropy import softened_cross_entropy


def old_class_cross_entropy(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of the first classes; `(..., classes)` and `(..., old classes)` to `(...)`."""
    old = teacher.shape[-1]
    if student.shape[:-1] != teacher.shape[:-1] or student.shape[-1] < old:
        raise ShapeMismatch(
            f"student {list(student.shape)} needs the {old} classes of the teacher {list(teacher.shape)} as its first ones; "
            "check which model is the old one."
        )
    return softened_cross_entropy(student[..., :old], teacher, temperature=temperature)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class WAKD(Loss):
    """Keeps what the old model says of the old classes, and leaves the new classes alone."""

    exempt: ClassVar[Mapping[str, str]] = {"equality": "a cross-entropy, whose least value is the teacher's own uncertainty"}

    temperature: Positive = 2.0
    """Softmax temperature T of both models."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return old_class_cross_entropy(logits_of(student), logits_of(teacher, "teacher"), temperature=self.temperature)
