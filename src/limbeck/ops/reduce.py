"""Reductions that leave the batch alone."""

from __future__ import annotations

from torch import Tensor


def example_mean(x: Tensor) -> Tensor:
    """Mean over everything behind the batch, `(batch, ...)` to `(batch,)`."""
    return x.flatten(1).mean(1) if x.ndim > 1 else x
