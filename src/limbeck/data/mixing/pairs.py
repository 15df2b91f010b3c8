"""Who is mixed with whom in an update, and who stays as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..hashing import permutation, uniform

_PARTNER, _KEPT = 1, 2


def partners(count: int, *counters: int) -> NDArray[np.int64]:
    """Position of the partner of every example of an update: a random order, which may leave an example with itself."""
    return permutation(count, *counters, _PARTNER)


def untouched(count: int, *counters: int, share: float, with_replacement: bool) -> NDArray[np.int64]:
    """Positions of the examples of an update that are not mixed.

    Args:
        count: examples of the update.
        counters: what the draw depends on.
        share: of those that are mixed.
        with_replacement: draw `int(count * (1 - share))` times from all, as MIX-KD's code does; positions may come twice.
    """
    if with_replacement:
        draws = int(count * (1 - share) + 1e-9)
        return (uniform(*counters, _KEPT, np.arange(draws)) * count).astype(np.int64)
    return permutation(count, *counters, _KEPT)[: count - round(count * share)]
