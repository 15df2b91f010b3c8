"""Which examples to keep, by a score."""

from __future__ import annotations

from torch import Tensor


def highest(scores: Tensor, *, ratio: float) -> Tensor:
    """Positions of the `ratio` of all scores `(examples,)` that are highest, rounded down, in ascending order of position."""
    kept = int(ratio * len(scores))
    return scores.argsort(descending=True, stable=True)[:kept].sort().values
