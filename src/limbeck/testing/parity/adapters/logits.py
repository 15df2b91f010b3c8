"""Losses on logits."""

from __future__ import annotations

from torch import Tensor

from ....losses.kd import KD
from ..case import Case, adapter


@adapter("kd")
def kd(case: Case) -> Tensor:
    """mdistiller's `kd_loss`: the batch mean, with the factor T^2."""
    return KD(temperature=case.hp["temperature"])(case.student, case.teacher).mean()
