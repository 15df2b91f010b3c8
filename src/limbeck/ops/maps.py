"""Maps of unlike size brought together."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def square_pool(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps, the higher of which is averaged down to a square of the other's height; others stay as they are."""
    if student.ndim < 4 or teacher.ndim < 4 or student.shape[2] == teacher.shape[2]:
        return student, teacher
    if student.shape[2] > teacher.shape[2]:
        return F.adaptive_avg_pool2d(student, teacher.shape[2]), teacher
    return student, F.adaptive_avg_pool2d(teacher, student.shape[2])
