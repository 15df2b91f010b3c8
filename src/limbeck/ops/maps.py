"""Maps of unlike size brought together."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def square_pool(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps, the higher of which is averaged down to a square of the other's height; others stay as they are."""
    if student.ndim < 4 or teacher.ndim < 4:
        return student, teacher
    ours, theirs = student.shape[2], teacher.shape[2]
    if ours > theirs:
        student = F.adaptive_avg_pool2d(student, theirs)
    if ours < theirs:
        teacher = F.adaptive_avg_pool2d(teacher, ours)
    return student, teacher
