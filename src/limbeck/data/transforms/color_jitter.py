"""Changes brightness, contrast and saturation of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...types import NonNegative
from .base import Draws, Transform, per_example


@final
@dataclass(frozen=True, kw_only=True)
class ColorJitter(Transform):
    """Random factors in [max(0, 1 - strength), 1 + strength], in the order brightness, contrast, saturation; kept in [0, 1]."""

    brightness: NonNegative = 0.2
    """Strength of the change of brightness."""
    contrast: NonNegative = 0.2
    """Strength of the change of contrast about the mean grey of the image."""
    saturation: NonNegative = 0.2
    """Strength of the change of saturation; of colour images only."""

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """Jitters every image."""
        if self.brightness:
            inputs = (inputs * self._factor(inputs, draws, 0, self.brightness)).clamp_(0, 1)
        if self.contrast:
            inputs = _blend(inputs, _mean(_grey(inputs)), self._factor(inputs, draws, 1, self.contrast))
        if self.saturation and inputs.shape[1] == 3:
            inputs = _blend(inputs, _grey(inputs), self._factor(inputs, draws, 2, self.saturation))
        return inputs

    def _factor(self, inputs: Tensor, draws: Draws, number: int, strength: float) -> Tensor:
        return per_example(draws.uniform(number, max(0.0, 1 - strength), 1 + strength), inputs)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (images * factor + other * (1 - factor)).clamp_(0, 1)


def _grey(images: Tensor) -> Tensor:
    """Luma of ITU-R BT.601, `(batch, 1, height, width)`."""
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def _mean(grey: Tensor) -> Tensor:
    """Mean of every image by whole numbers, whose sum has no rounding that depends on the order."""
    whole = (grey * 2.0**16).round().to(torch.int64).flatten(1)
    return (whole.sum(1).double() / (whole.shape[1] * 2.0**16)).to(grey.dtype)[:, None, None, None]
