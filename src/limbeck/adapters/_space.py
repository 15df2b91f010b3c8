"""Spatial alignment without parameters: grids of tokens, sizes of maps."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeMismatch

Resize = Literal["smaller", "student", "teacher"]
"""Whose height and width the result has; `smaller` takes the smaller of both."""

_USUAL_PREFIXES = (0, 1, 2, 5)
"""Tokens before the grid: none, a class token, with a distillation token, with four registers."""


def grid_of(tokens: int, other: tuple[int, int] | None, prefix: int | None) -> tuple[int, int, int]:
    """Height, width and number of leading tokens (class token, registers) of a grid of `tokens` tokens.

    Args:
        tokens: how many tokens there are.
        other: height and width of the other side; the same grid is preferred, which admits grids that are not square.
        prefix: the number of leading tokens, where it is known.

    Raises:
        ShapeMismatch: where no grid fits.
    """
    if prefix is not None and (not isinstance(prefix, int) or prefix < 0):
        raise ShapeMismatch(f"the number of leading tokens must be 0 or more, got {prefix!r}.")
    options = _USUAL_PREFIXES if prefix is None else (prefix,)
    if other is not None:
        for count in options:
            if tokens - count == other[0] * other[1]:
                return other[0], other[1], count
    for count in options:
        side = math.isqrt(max(tokens - count, 0))
        if side > 0 and side * side == tokens - count:
            return side, side, count
    counted = "0, 1, 2 or 5" if prefix is None else str(prefix)
    raise ShapeMismatch(
        f"{tokens} tokens with {counted} leading tokens (class token, registers) form no square grid, so they cannot be compared with "
        "another number of places. Tap layers with equal numbers of tokens, or give the adapter student_prefix or teacher_prefix."
    )


def to_map(feature: Tensor, other: tuple[int, int] | None = None, prefix: int | None = None) -> Tensor:
    """`(batch, channels, height, width)`, from a map (as it is) or from tokens (leading tokens dropped)."""
    if feature.ndim == 4:
        return feature
    height, width, start = grid_of(feature.shape[1], other, prefix)
    return feature[:, start:].transpose(1, 2).unflatten(2, (height, width))


def size_of(feature: Tensor) -> tuple[int, int] | None:
    """Height and width of a map; None for tokens."""
    return (feature.shape[2], feature.shape[3]) if feature.ndim == 4 else None


def resized(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """A map of height and width `size`: averaged where it shrinks, interpolated bilinearly where it grows."""
    height, width = feature.shape[2:]
    if (height, width) == size:
        return feature
    if height >= size[0] and width >= size[1]:
        return F.adaptive_avg_pool2d(feature, size)
    return F.interpolate(feature, size, mode="bilinear", align_corners=False)


def common_size(student: Tensor, teacher: Tensor, resize: Resize) -> tuple[int, int]:
    """The height and width that both maps are brought to."""
    (sh, sw), (th, tw) = student.shape[2:], teacher.shape[2:]
    if resize == "smaller":
        return min(sh, th), min(sw, tw)
    return (sh, sw) if resize == "student" else (th, tw)


def aligned_maps(
    student: Tensor, teacher: Tensor, resize: Resize, student_prefix: int | None = None, teacher_prefix: int | None = None
) -> tuple[Tensor, Tensor]:
    """Both features as maps of one height and width; channels as they are, the teacher cut off from its graph."""
    s = to_map(student, size_of(teacher), student_prefix)
    t = to_map(teacher.detach(), size_of(student), teacher_prefix)
    size = common_size(s, t, resize)
    return resized(s, size), resized(t, size)
