"""Turns, shifts, scales and shears images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...types import Fraction, NonNegative
from ._warp import rotations, warp
from .base import Draws, Transform


@final
@dataclass(frozen=True, kw_only=True)
class Affine(Transform):
    """A random affine map; what comes in from outside is black."""

    degrees: NonNegative = 10.0
    """Largest turn, either way."""
    translate: Fraction = 0.1
    """Largest shift, as a fraction of height and width."""
    scale: Fraction = 0.1
    """Largest change of size: factors lie between 1 - scale and 1 + scale."""
    shear: NonNegative = 0.0
    """Largest horizontal shear in degrees, either way."""

    def __post_init__(self) -> None:
        if self.scale >= 1 or self.shear >= 90:
            raise ValueError(f"affine needs scale < 1 and shear < 90, got {self.scale} and {self.shear}")

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """Maps every image."""
        height, width = inputs.shape[2:]
        cosine, sine = rotations(draws.uniform(0, -self.degrees, self.degrees))
        shear_cosine, shear_sine = rotations(draws.uniform(4, -self.shear, self.shear))
        size = draws.uniform(3, 1 - self.scale, 1 + self.scale)
        slope = shear_sine / shear_cosine
        shift_x = draws.uniform(1, -self.translate, self.translate) * width
        shift_y = draws.uniform(2, -self.translate, self.translate) * height
        rows = (
            torch.stack([(cosine + slope * -sine) / size, (sine + slope * cosine) / size, shift_x], 1),
            torch.stack([-sine / size, cosine / size, shift_y], 1),
        )
        return warp(inputs, torch.stack(rows, 1))
