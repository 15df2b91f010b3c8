"""Examples of several domains, drawn by changing shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .hashing import permutation
from .split import allot

Numbers = NDArray[np.int64]


def drawn(domains: Numbers, counts: Numbers, cursors: Numbers, seed: int) -> Numbers:
    """Examples in the order in which they are trained, each domain spread evenly over it.

    A domain is read in a random order, and in another one when it has been read through; where it is read on is said by `cursors`, so that
    nothing is read twice before all of its domain was read once.

    Args:
        domains: of every example.
        counts: how many of each domain.
        cursors: how many of each domain have been drawn before.
        seed: of the orders.
    """
    chosen, places = [], []
    for number, (count, cursor) in enumerate(zip(counts.tolist(), cursors.tolist(), strict=True)):
        own = np.flatnonzero(domains == number)
        turns = np.arange(cursor, cursor + count)
        orders = {turn: permutation(len(own), seed, number, turn) for turn in np.unique(turns // max(len(own), 1)).tolist()}
        chosen.append(np.array([own[orders[turn // len(own)][turn % len(own)]] for turn in turns.tolist()], dtype=np.int64))
        places.append((np.arange(count) + 0.5) / max(count, 1))
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(chosen)[order]


def counts_of(shares: NDArray[np.float64], total: int, sizes: Numbers) -> Numbers:
    """How many of `total` examples to draw of each domain, by largest remainder; none of a domain without examples."""
    wanted = np.where(sizes > 0, shares, 0.0)
    scaled = np.round(wanted / wanted.sum() * 2**40).astype(np.int64)
    return allot(scaled, total, least=0, spare=0)
