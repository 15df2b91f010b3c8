"""Cuts a random part of each image and scales it to the old size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from ._warp import warp
from .base import Draws, Transform


@final
@dataclass(frozen=True, kw_only=True)
class ResizedCrop(Transform):
    """A window of random area, shape and place, scaled by bilinear interpolation (not antialiased)."""

    area: Annotated[float, Gt(0), Le(1)] = 0.3
    """Smallest share of the image's area; the largest is 1."""
    ratio: Annotated[float, Ge(1)] = 4 / 3
    """Largest width to height of the window, relative to the image's; the smallest is its inverse."""

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """Cuts and scales every image."""
        height, width = inputs.shape[2:]
        area = draws.uniform(0, self.area, 1.0)
        stretch = torch.tensor([self.ratio**value for value in draws.uniform(1, -1.0, 1.0).tolist()], dtype=torch.float64)
        scale_x = (area * stretch).sqrt().clamp_(max=1.0)
        scale_y = (area / stretch).sqrt().clamp_(max=1.0)
        shift_x = draws.uniform(2, -0.5, 0.5) * (1 - scale_x) * width
        shift_y = draws.uniform(3, -0.5, 0.5) * (1 - scale_y) * height
        zero = torch.zeros_like(area)
        rows = (torch.stack([scale_x, zero, shift_x], 1), torch.stack([zero, scale_y, shift_y], 1))
        return warp(inputs, torch.stack(rows, 1), edge=True)
