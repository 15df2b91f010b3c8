"""Seeds that are derived from the recipe's, one for each purpose."""

from __future__ import annotations

import zlib


def seed_of(seed: int, purpose: str, round: int = 0) -> int:  # noqa: A002
    """The seed for one purpose, so that one does not shift another.

    Args:
        seed: the recipe's.
        purpose: a name.
        round: number of the round of a stage.
    """
    return (seed * 1_000_003 + zlib.crc32(purpose.encode()) + 7919 * round) % 2**31
