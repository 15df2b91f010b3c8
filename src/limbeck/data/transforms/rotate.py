"""Turns images about their centre."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...types import NonNegative
from ._warp import rotations, warp
from .base import Draws, Transform


@final
@dataclass(frozen=True, kw_only=True)
class Rotate(Transform):
    """A turn by a random angle; what comes in from outside is black."""

    degrees: NonNegative = 15.0
    """Largest angle, either way."""

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """Turns every image."""
        cosine, sine = rotations(draws.uniform(0, -self.degrees, self.degrees))
        zero = torch.zeros_like(cosine)
        maps = torch.stack([torch.stack([cosine, sine, zero], 1), torch.stack([-sine, cosine, zero], 1)], 1)
        return warp(inputs, maps)
