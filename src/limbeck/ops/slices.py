"""Quantities over pairs of examples, a slice of the batch at a time."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_slices(part: Callable[..., Tensor], *tensors: Tensor, size: int, chunk: int) -> list[Tensor]:
    """What `part(*tensors, rows)` gives for one slice `rows` of at most `chunk` of `size` examples after the other.

    Where there is more than one slice, each is computed again in the backward pass, so that what one slice needs is all that is held
    at once.
    """
    if size <= chunk:
        return [part(*tensors, slice(0, size))]
    slices = (slice(start, min(start + chunk, size)) for start in range(0, size, chunk))
    return [checkpoint(part, *tensors, rows, use_reentrant=False) for rows in slices]  # pyright: ignore[reportReturnType]
