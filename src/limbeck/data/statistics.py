"""Mean and standard deviation of the training inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from .hashing import permutation
from .stores import ImageFiles, Store
from .tabular import Matrix

SAMPLE = 2048
"""Most images that are decoded for the statistics of a folder."""


def moments(store: Store, rows: Tensor, kind: str) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation over the training rows, per channel of images or per column; None for text.

    Of images on disk, at most `SAMPLE` are decoded, chosen by a fixed seed. A deviation of 0 is given as 1.
    Columns of a table that hold 0 and 1 for a category have mean 0 and deviation 1, so that they stay as they are.
    """
    if kind == "text":
        return None, None
    if isinstance(store, ImageFiles) and len(rows) > SAMPLE:
        rows = rows[torch.from_numpy(permutation(len(rows), 0)[:SAMPLE]).sort().values]
    if len(rows) == 0:
        return None, None
    # Centring by the first rows keeps the sum of squares small, so that nothing cancels.
    shift = _by_channel(store, rows[:256]).mean(1)
    count, total, squares = 0, torch.zeros_like(shift), torch.zeros_like(shift)
    for part in rows.split(1024):
        centred = _by_channel(store, part) - shift[:, None]
        count += centred.shape[1]
        total += centred.sum(1)
        squares += centred.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp_(min=0).sqrt()
    std = torch.where(std > 1e-12 * (shift.abs() + 1), std, torch.ones_like(std))
    mean = mean + shift
    if isinstance(store, Matrix):
        mean, std = mean.masked_fill(store.indicator, 0.0), std.masked_fill(store.indicator, 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _by_channel(store: Store, rows: Tensor) -> Tensor:
    """`(channels, values)`, float64."""
    values: Tensor = store.gather(rows)
    return values.transpose(0, 1).reshape(values.shape[1], -1).double()
