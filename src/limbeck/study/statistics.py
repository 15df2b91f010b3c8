r"""Intervals from a few numbers: means of paired differences, correlations, and whatever else by the jackknife.

Differences :math:`d_1 \dots d_n` (one a seed) have the interval :math:`\bar d \pm t_{n-1}\, s / \sqrt n`, Student's t, two-sided; the p
value is that of the paired t test. Arms and data are what they are, only the seed is drawn: an interval says what other seeds would give.

References: Student, "The probable error of a mean", Biometrika 1908. Tukey, "Bias and confidence in not quite large samples", Annals of
Mathematical Statistics 1958 (jackknife). Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman
correlations", Psychometrika 2000 (eq. 3, the standard error of Fisher's z for Spearman).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

ROUNDING = 1e-12
"""Differences this small beside the values that they are taken from are rounding, not spread."""
POWER = 0.8
"""How surely `needed_seeds` seeds would decide."""
MOST_SEEDS = 10_000
"""More seeds than these decide nothing that anyone would wait for."""


@dataclass(frozen=True)
class Interval:
    """An estimate, its two-sided interval, and the evidence against zero."""

    estimate: float
    low: float
    high: float
    p: float
    """Two-sided p value of the estimate being zero."""
    distance: float
    """How far from zero the estimate is, on the scale of `deviation` (of a correlation Fisher's z, of a deviation its logarithm)."""
    deviation: float
    """Standard deviation of one seed on that scale; 0 where all seeds agree to rounding."""


def t_interval(values: Sequence[float], confidence: float, *, scale: float = 0.0) -> Interval:
    """The mean of values with Student's interval; p of the t test against zero.

    Equal values have no spread: the interval is the value itself, p is 1 where it is zero and 0 elsewhere.

    Args:
        values: at least two, finite.
        confidence: between 0 and 1.
        scale: size of the numbers whose differences the values are; what is below their rounding counts as zero.
    """
    count = len(values)
    if count < 2:
        raise ValueError(f"an interval needs two values, found {count}")
    data = np.asarray(values, dtype=np.float64)
    mean, deviation = float(data.mean()), float(data.std(ddof=1))
    grain = ROUNDING * max(scale, float(np.abs(data).max()))
    if deviation <= grain:
        mean = 0.0 if abs(mean) <= grain else mean
        return Interval(mean, mean, mean, 0.0 if mean else 1.0, mean, 0.0)
    error = deviation / math.sqrt(count)
    half = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * error
    p = 2 * float(special.stdtr(count - 1, -abs(mean) / error))
    return Interval(mean, mean - half, mean + half, p, mean, deviation)


def paired(left: Sequence[float], right: Sequence[float], confidence: float) -> Interval:
    """The mean difference of two columns of the same seeds, with its interval; p is that of the paired t test."""
    scale = max(map(abs, [*left, *right]), default=0.0)
    return t_interval([a - b for a, b in zip(left, right, strict=True)], confidence, scale=scale)


def jackknife(statistic: Callable[[Sequence[int]], float], count: int) -> list[float]:
    r"""Tukey's pseudo-values :math:`n\,T - (n - 1)\,T_{-i}` of a statistic of `count` seeds; their mean and spread are its own.

    For a mean they are the values themselves, so that their t interval is Student's.

    Args:
        statistic: from positions of seeds to a number.
        count: how many seeds there are.
    """
    whole = statistic(range(count))
    return [count * whole - (count - 1) * statistic([j for j in range(count) if j != i]) for i in range(count)]


def spread_interval(values: Sequence[float], confidence: float, *, bound: float = 0.0) -> Interval:
    """The standard deviation of normal values less a bound, with the exact interval from chi-square; p against it being the bound.

    Args:
        values: at least two, finite.
        confidence: between 0 and 1.
        bound: what is taken off.
    """
    found, free = t_interval(values, confidence), len(values) - 1
    deviation = found.deviation
    if deviation == 0:
        return Interval(-bound, -bound, -bound, 0.0 if bound else 1.0, -bound, 0.0)
    low, high = (deviation * math.sqrt(free / float(stats.chi2.ppf(q, free))) for q in ((1 + confidence) / 2, (1 - confidence) / 2))
    if bound <= 0:
        return Interval(deviation - bound, low - bound, high - bound, 0.0, math.inf, math.sqrt(0.5))
    tail = free * (deviation / bound) ** 2
    p = 2 * min(float(stats.chi2.sf(tail, free)), float(stats.chi2.cdf(tail, free)))
    return Interval(deviation - bound, low - bound, high - bound, p, math.log(deviation / bound), math.sqrt(0.5))


def power(count: int, effect: float, confidence: float) -> float:
    """How often a two-sided t test of `count` seeds decides for the sign of a true mean of `effect` standard deviations."""
    critical = special.stdtrit(count - 1, (1 + confidence) / 2)
    return 1 - float(special.nctdtr(count - 1, abs(effect) * math.sqrt(count), critical))


def needed_seeds(mean: float, deviation: float, confidence: float, *, at_least: int = 2) -> int | None:
    """How many seeds decide with power 0.8 if the true mean and deviation are those observed; None where no 10,000 seeds would.

    Args:
        mean: of the differences.
        deviation: of the differences, n - 1 in the denominator.
        confidence: of the interval that has to leave zero out.
        at_least: the answer is never smaller.
    """
    if deviation <= 0 or not math.isfinite(mean / deviation):
        return None
    effect = abs(mean) / deviation
    if power(MOST_SEEDS, effect, confidence) < POWER:
        return None
    low, high = at_least, max(at_least, MOST_SEEDS)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, effect, confidence) >= POWER else (middle + 1, high)
    return low


Correlation = Literal["spearman", "pearson"]


def correlation(kind: Correlation, x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation (ties get mean ranks) or linear correlation; NaN where one side does not vary or there are fewer than 2 pairs."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 2:
        return math.nan
    if kind == "spearman":
        a, b = stats.rankdata(a), stats.rankdata(b)
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    flat = min(float(np.ptp(a)), float(np.ptp(b))) == 0
    return math.nan if flat or size == 0 else max(-1.0, min(1.0, float(a @ b) / size))


def fisher_error(kind: Correlation, r: float, count: int) -> float:
    """Standard error of atanh of a correlation of `count` pairs: 1 / sqrt(n - 3), for ranks wider by sqrt(1 + r^2 / 2)."""
    return math.sqrt((1 + r * r / 2 if kind == "spearman" else 1.0) / (count - 3))


def fisher(r: float, count: int) -> float:
    """Atanh of a correlation; of 1, which `count` pairs cannot tell from a little less, that of half a step of ranks less."""
    most = 1 - 3 / (count**3 - count)
    return math.atanh(max(-most, min(most, r)))


def correlation_interval(
    kind: Correlation, r: float, count: int, confidence: float, *, bound: float = 0.0, seeds: Sequence[float] = ()
) -> Interval:
    """The interval of a correlation less a bound; the evidence is against the correlation being the bound.

    On the scale of Fisher's z; of the error that `count` pairs have and that which the seeds show (pairs of one seed may go together)
    the one counts that makes the wider interval.

    Args:
        kind: spearman or pearson.
        r: the correlation.
        count: pairs, at least 4.
        confidence: between 0 and 1.
        bound: what is taken off.
        seeds: pseudo-values of z, one a seed (`jackknife`); none where there is one seed.
    """
    z, edge = fisher(r, count), fisher(1.0, count)
    distance = z - fisher(bound, count) if abs(bound) <= 1 else -math.copysign(math.inf, bound)
    error = fisher_error(kind, r, count)
    half, p = float(special.ndtri((1 + confidence) / 2)) * error, 2 * float(special.ndtr(-abs(distance) / error))
    if len(seeds) > 1 and all(map(math.isfinite, seeds)):
        spread = t_interval(seeds, confidence)
        wide, own = (spread.high - spread.low) / 2, spread.deviation / math.sqrt(len(seeds))
        if wide > half:
            half, error, p = wide, own, 2 * float(special.stdtr(len(seeds) - 1, -abs(distance) / own))

    def back(value: float) -> float:
        return math.copysign(1.0, value) if abs(value) >= edge else math.tanh(value)

    low, high = min(r, back(z - half)), max(r, back(z + half))
    return Interval(r - bound, low - bound, high - bound, p, distance, error * math.sqrt(max(len(seeds), 1)))
