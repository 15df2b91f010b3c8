"""Values that change over a stage: weights, temperatures and other hyper-parameters of a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal


def between(points: Sequence[Sequence[float]], at: float) -> float:
    """The value at `at` of the line through `points` `(place, value)` in ascending order; constant before the first and after the last."""
    if at <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in pairwise(points):
        if at <= right:
            return low + (high - low) * (at - left) / (right - left)
    return points[-1][1]


@dataclass(frozen=True)
class Ramp:
    r"""A change from `start` to `end` between two points of a stage.

    With :math:`u = clip((p - begin) / (until - begin), 0, 1)` of the progress :math:`p \in [0, 1]`:

    - linear: :math:`start + (end - start) u`
    - cosine: :math:`end + (start - end) (1 + \cos \pi u) / 2`
    - exponential: :math:`start (end / start)^u`, for values of one sign
    - step: `start` while :math:`u < 1/2`, then `end`
    """

    shape: Literal["linear", "cosine", "exponential", "step"]
    start: float
    end: float
    begin: float = 0.0
    until: float = 1.0

    def at(self, progress: float) -> float:
        """The value at `progress`, a fraction of the stage."""
        span = self.until - self.begin
        u = min(max((progress - self.begin) / span, 0.0), 1.0) if span > 0 else float(progress >= self.begin)
        if self.shape == "linear":
            return self.start + (self.end - self.start) * u
        if self.shape == "cosine":
            return self.end + (self.start - self.end) * (1 + math.cos(math.pi * u)) / 2
        if self.shape == "step":
            return self.start if u < 0.5 else self.end
        return self.start * (self.end / self.start) ** u


def scaled(value: float | Ramp, factor: float) -> float | Ramp:
    """A value, or both ends of its change, times `factor`."""
    return replace(value, start=value.start * factor, end=value.end * factor) if isinstance(value, Ramp) else value * factor
