"""Resampling of images under one affine map each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(images: Tensor, maps: Tensor, *, edge: bool = False) -> Tensor:
    """Bilinear resampling.

    Args:
        images: `(batch, channels, height, width)`.
        maps: from output to input coordinates, in pixels from the centre, `(batch, 2, 3)`: rows give x and y of the input.
        edge: repeat the border outside the image rather than black.
    """
    height, width = images.shape[2:]
    y = torch.arange(height, dtype=torch.float64)[None, :, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64)[None, None, :] - (width - 1) / 2
    # Written out, and not as a matrix product, whose rounding may depend on the size of the batch.
    parts = [maps[:, i, j, None, None] for i in (0, 1) for j in (0, 1, 2)]
    source_x = parts[0] * x + parts[1] * y + parts[2]
    source_y = parts[3] * x + parts[4] * y + parts[5]
    grid = torch.stack([source_x * (2 / width), source_y * (2 / height)], dim=-1).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border" if edge else "zeros", align_corners=False)


def rotations(degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of angles in degrees, `(batch,)` each, by the scalar functions of the C library."""
    import math

    radians = [math.radians(value) for value in degrees.tolist()]
    return (
        torch.tensor([math.cos(value) for value in radians], dtype=torch.float64),
        torch.tensor([math.sin(value) for value in radians], dtype=torch.float64),
    )
