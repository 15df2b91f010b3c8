"""How closely a student follows its teacher; both as logits over the same examples, on the same device."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.divergence import kl


def class_agreement(student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> dict[str, Any]:
    """Share of equal predictions (`top1`) and mean KL of the student from the teacher (`kl`, nats).

    With labels also the share of equal predictions where the teacher is right (`top1_teacher_right`) and where it is
    wrong (`top1_teacher_wrong`: errors that the student inherited), and how often the student is right where the teacher is wrong
    (`right_teacher_wrong`); None where there is no such example.

    Args:
        student: `(examples, classes)`.
        teacher: of the same shape.
        labels: class indices, `(examples,)`.

    Raises:
        ShapeMismatch: where the two have not the same classes.
    """
    _same(student, teacher)
    same = student.argmax(1) == teacher.argmax(1)
    values: dict[str, Any] = {"top1": same.double().mean().item(), "kl": kl(teacher.double(), student.double()).mean().item()}
    if labels is not None:
        right = teacher.argmax(1) == labels
        values["top1_teacher_right"] = _share(same[right])
        values["top1_teacher_wrong"] = _share(same[~right])
        values["right_teacher_wrong"] = _share((student.argmax(1) == labels)[~right])
    return values


def label_agreement(student: Tensor, teacher: Tensor) -> dict[str, Any]:
    """The same for several labels an example: share of equal decisions, mean KL of the Bernoulli distributions (nats a label)."""
    _same(student, teacher)
    student, teacher = student.double(), teacher.double()
    probability = teacher.sigmoid()
    divergence = probability * (F.logsigmoid(teacher) - F.logsigmoid(student))
    divergence += (1 - probability) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return {"top1": ((student > 0) == (teacher > 0)).double().mean().item(), "kl": divergence.mean().item()}


def _share(values: Tensor) -> float | None:
    return values.double().mean().item() if values.numel() else None


def _same(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        found = f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
        raise ShapeMismatch(f"agreement needs the same examples and outputs of both models, found {found}.")
    if not torch.is_floating_point(student):
        raise ShapeMismatch(f"agreement needs logits, found {student.dtype}.")
