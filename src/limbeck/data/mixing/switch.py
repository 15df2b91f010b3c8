"""Mixup or CutMix, by chance.

Fast distillation (FKD) takes mixup with a coefficient of Beta(0.8, 0.8) or CutMix with Beta(1, 1), each half of the time.

Reference: Shen, Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", ECCV 2022, arXiv:2112.01528.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...types import Fraction, Positive
from ..transforms.base import Draws, per_example
from .base import Mixing, symmetric_beta
from .cutmix import paste, rectangles
from .mixup import blend


@final
@dataclass(frozen=True, kw_only=True)
class Switch(Mixing):
    """Mixup or CutMix, drawn for every example (or update) anew."""

    mixup: Positive = 0.8
    """Alpha of mixup."""
    cutmix: Positive = 1.0
    """Alpha of CutMix."""
    switch: Fraction = 0.5
    """How often it is CutMix."""

    def apply(self, own: Tensor, other: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """What was drawn of the two."""
        cut = draws.chance(0, self.switch)
        coefficient = symmetric_beta(draws, 1, self.mixup).float()
        pasted, area = paste(own, other, rectangles(draws, 3, self.cutmix, *own.shape[-2:]))
        return torch.where(per_example(cut, own), pasted, blend(own, other, coefficient)), torch.where(cut, area, coefficient)
