"""Mirrors images left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...types import Fraction
from .base import Draws, Transform, per_example


@final
@dataclass(frozen=True, kw_only=True)
class Flip(Transform):
    """Left to right, with a probability."""

    probability: Fraction = 0.5
    """Share of the images that are mirrored."""

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """Mirrors some of the images."""
        return torch.where(per_example(draws.chance(0, self.probability), inputs), inputs.flip(-1), inputs)
