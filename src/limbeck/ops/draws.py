"""Random numbers as a function of what they are for: a restart, another process and another order of the batch draw the same."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 2**32 - 1
_STEP = 0x9E3779B9  # odd, near 2**32 divided by the golden ratio: multiples of it spread evenly


def scramble(x: Tensor) -> Tensor:
    """A permutation of the numbers below 2^32 without a visible order; int64 to int64, higher bits are ignored."""
    x = (x + _STEP) & _MASK
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & _MASK  # an odd factor of 27 bits, so that int64 does not overflow
    return x ^ (x >> 16)


def other_numbers(own: Tensor, *, seed: Tensor, count: int, size: int) -> Tensor:
    """Uniform draws from the numbers below `size`, with repetition, without one's own.

    Args:
        own: `(batch,)`, int64; the draws of a row depend on it and the seed, not on its place.
        seed: scalar, int64; another one for every batch.
        count: number of draws in a row.
        size: at least 2.

    Returns:
        `(batch, count)`, int64.
    """
    streams = scramble(scramble(seed) ^ own)
    steps = torch.arange(count, device=own.device) * _STEP
    drawn = scramble(streams.unsqueeze(1) + steps) % (size - 1)
    return drawn + (drawn >= own.unsqueeze(1))
