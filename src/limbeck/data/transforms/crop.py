"""Shifts images by a few pixels: pads them and cuts a window of the old size at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ...types import PositiveInt
from .base import Draws, Transform


@final
@dataclass(frozen=True, kw_only=True)
class Crop(Transform):
    """A window of the old size at a random place of the padded image."""

    padding: PositiveInt = 4
    """Pixels added on every side."""
    fill: Literal["zero", "reflect", "edge"] = "zero"
    """What is added: black, the mirrored image, or its border."""

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """Shifts every image by up to `padding` pixels each way."""
        batch, channels, height, width = inputs.shape
        mode = {"zero": "constant", "reflect": "reflect", "edge": "replicate"}[self.fill]
        padded = F.pad(inputs, [self.padding] * 4, mode=mode)
        rows = draws.integers(0, 2 * self.padding + 1)[:, None] + torch.arange(height)
        columns = draws.integers(1, 2 * self.padding + 1)[:, None] + torch.arange(width)
        places = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).reshape(batch, 1, height * width)
        return padded.flatten(2).gather(2, places.expand(batch, channels, -1)).reshape(inputs.shape)
