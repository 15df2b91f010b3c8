"""Blacks out a square of each image.

Reference: DeVries, Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017, arXiv:1708.04552.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...types import Fraction, PositiveInt
from .base import Draws, Transform, per_example


@final
@dataclass(frozen=True, kw_only=True)
class Erase(Transform):
    """A square around a random pixel (cutout); it may reach over the border."""

    size: PositiveInt = 8
    """Side of the square in pixels."""
    probability: Fraction = 1.0
    """Share of the images in which a square is erased."""
    value: float = 0.0
    """What the square is filled with."""

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """Erases a square of some of the images."""
        inside = self._inside(draws.integers(0, inputs.shape[2]), inputs.shape[2])[:, None, :, None]
        inside = inside & self._inside(draws.integers(1, inputs.shape[3]), inputs.shape[3])[:, None, None, :]
        return inputs.masked_fill(inside & per_example(draws.chance(2, self.probability), inputs), self.value)

    def _inside(self, centre: Tensor, length: int) -> Tensor:
        offset = torch.arange(length)[None, :] - centre[:, None] + self.size // 2
        return (offset >= 0) & (offset < self.size)
