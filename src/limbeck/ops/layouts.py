"""Features of any layout as maps: `(batch, channels, height, width)`."""

from __future__ import annotations

import math

from torch import Tensor

from ..errors import ShapeMismatch
from .precision import widen

_LEADING = (0, 1, 2, 5)
"""Tokens before the grid: none, a class token, with a distillation token, with four registers."""


def as_map(feature: Tensor) -> Tensor:
    """A feature as a map, in float32 or wider.

    Args:
        feature: map, as it is; tokens `(batch, tokens, channels)`, laid out as the square grid that they come from (a class token and
            registers before it are left out); vectors `(batch, channels)`, a map of one position.

    Raises:
        ShapeMismatch: where tokens form no square grid.
    """
    feature = widen(feature)
    if feature.ndim == 2:
        return feature[:, :, None, None]
    if feature.ndim > 3:
        return feature
    tokens = feature.shape[1]
    for leading in _LEADING:
        if tokens > leading and (side := math.isqrt(tokens - leading)) ** 2 == tokens - leading:
            return feature[:, leading:].mT.unflatten(2, (side, side))
    raise ShapeMismatch(f"{tokens} tokens form no square grid, with 0, 1, 2 or 5 tokens before it; tap a layer that gives a map.")


def as_positions(feature: Tensor) -> Tensor:
    """A feature as `(batch, channels, positions)`, in float32 or wider; tokens are positions, a vector is one."""
    feature = widen(feature)
    if feature.ndim > 3:
        return feature.flatten(2)
    return feature.mT if feature.ndim == 3 else feature.unsqueeze(2)


def pooled(feature: Tensor) -> Tensor:
    """A feature as one vector an example, `(batch, channels)`, in float32 or wider: maps and tokens are averaged over their positions."""
    return as_positions(feature).mean(2) if feature.ndim > 2 else widen(feature)  # a mean of one would be a copy
