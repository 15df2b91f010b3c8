"""The shuffle of channels between groups."""

from __future__ import annotations

from torch import Tensor


def shuffle(x: Tensor, groups: int) -> Tensor:
    """The channels of a map in another order: the first of every group, then the second of every group, and so on."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
