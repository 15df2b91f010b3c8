"""Values over seeds in words: mean and standard deviation, paired differences and their interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .numbers import ABSENT, Metric, metric
from .table import agreement_metric


@dataclass(frozen=True)
class Interval:
    """A mean difference and the interval around it."""

    mean: float
    low: float
    high: float
    seeds: int

    def oriented(self, known: Metric) -> Interval:
        """The same as a gain: above zero where the first of the two is better."""
        return Interval(-self.mean, -self.high, -self.low, self.seeds) if known.better == "lower" else self

    def text(self, known: Metric) -> str:
        """The difference and its interval: `+1.2 pts [+0.4, +2.0]`."""
        return known.delta(self.mean) + ("" if math.isnan(self.low) else f" {self.bounds(known)}")

    def bounds(self, known: Metric) -> str:
        """The interval alone: `[+0.4, +2.0]`."""
        low, high = (known.delta(value).removesuffix(" pts") for value in (self.low, self.high))
        return f"[{low}, {high}]"


def quantity(key: str) -> Metric:
    """What is known of a key of a study's values: a metric, an agreement with the teacher, or a cost."""
    part, dot, own = key.partition(".")
    if part != "agreement" or not dot:
        return metric(key)
    title, _, help_ = agreement_metric(own)
    share = own.startswith("top1")
    return Metric(key, title, "neither", "percent" if share else "number", help_)


def differences(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """Differences seed by seed, of the seeds that both have."""
    return [a - b for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None]


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Mean of paired differences with its Student t interval; the interval is NaN with fewer than two, None without any."""
    if not values:
        return None
    middle = statistics.fmean(values)
    if len(values) < 2:
        return Interval(middle, math.nan, math.nan, len(values))
    from scipy.stats import t

    half = float(t.ppf(0.5 + confidence / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(middle, middle - half, middle + half, len(values))


def spread(values: Sequence[float | None], known: Metric) -> str:
    """Mean ± standard deviation over the seeds that have a value; the mean alone where nothing varies."""
    present = [value for value in values if value is not None]
    if not present:
        return ABSENT
    text = known.text(statistics.fmean(present))
    if len(set(present)) == 1:
        return text
    return f"{text} ± {known.delta(statistics.stdev(present)).lstrip('+±').removesuffix(' pts')}"


def confidence_of(value: float | None) -> str:
    """A confidence as a percentage: `95%`."""
    return f"{100 * (value or 0.95):.3g}%"
