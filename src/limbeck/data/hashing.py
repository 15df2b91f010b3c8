"""Random numbers as a pure function of counters, so that they depend on no order, process or library version.

The mixing function is SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mix(*counters: int | NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 random bits for every tuple of counters; arrays broadcast against each other and the result has at least one dimension."""
    state = np.zeros(1, dtype=np.uint64)
    for counter in counters:
        if isinstance(counter, int):
            value = np.array([counter % (1 << 64)], dtype=np.uint64)
        else:
            value = np.asarray(counter, dtype=np.int64).view(np.uint64)
        state = (state ^ value) + _GOLDEN
        state = (state ^ (state >> np.uint64(30))) * _FIRST
        state = (state ^ (state >> np.uint64(27))) * _SECOND
        state = state ^ (state >> np.uint64(31))
    return state


def uniform(*counters: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one for every tuple of counters."""
    return (mix(*counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(size: int, *counters: int) -> NDArray[np.int64]:
    """A random order of `range(size)` that is a function of the counters only."""
    return np.argsort(mix(*counters, np.arange(size)), kind="stable").astype(np.int64)
