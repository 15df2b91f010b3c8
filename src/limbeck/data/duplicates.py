"""Finds examples that nearly repeat others, so that nothing of the test is learnt from a pool."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError

RISE = 1e-4
"""Least difference of two grey levels in [0, 1] that is one; what lies below is rounding."""


def difference_hash(images: Tensor) -> Tensor:
    """64 bits an image: whether grey levels rise from left to right, on an 8 by 9 grid of means.

    Args:
        images: `(batch, channels, height, width)`.

    Returns:
        `(batch, 64)`, bool.
    """
    grey = images.float().mean(1, keepdim=True)
    small = F.interpolate(grey, (8, 9), mode="bilinear", antialias=True, align_corners=False)[:, 0]
    return (small[:, :, 1:] > small[:, :, :-1] + RISE).flatten(1)


def near(candidates: Tensor, others: Tensor, bits: int) -> Tensor:
    """Which candidates repeat one of the others, `(candidates,)`, bool.

    Images repeat each other where their difference hashes differ in at most `bits` bits; anything else where it is equal.

    Raises:
        DataError: a distance for inputs that are no images.
    """
    if candidates.ndim == 4:
        first, second = difference_hash(candidates).float(), difference_hash(others).float()
        return torch.cat([(torch.cdist(part, second, p=1) <= bits + 0.5).any(1) for part in first.split(1024)])
    if bits:
        raise DataError(f"data.select.apart: only images can be nearly equal; write 0 instead of {bits} for inputs that are equal.")
    known = {row.numpy().tobytes() for row in others}
    return torch.tensor([row.numpy().tobytes() in known for row in candidates], dtype=torch.bool)
