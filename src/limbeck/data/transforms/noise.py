"""Adds Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ...types import NonNegative
from .base import Draws, Transform


@final
@dataclass(frozen=True, kw_only=True)
class Noise(Transform):
    """Independent Gaussian noise on every value."""

    kinds: ClassVar[tuple[str, ...]] = ("image", "tabular")

    std: NonNegative = 0.05
    """Standard deviation, in the units of the inputs ([0, 1] for images)."""

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """Adds noise to every example."""
        noise = torch.stack([torch.randn(inputs.shape[1:], generator=generator) for generator in draws.generators()])
        return inputs + noise.mul_(self.std)
