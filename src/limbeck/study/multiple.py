r"""Several questions at once: Holm's correction, and the ranking of arms with critical differences.

The ranks of k arms in each of N seeds (1 is best, ties share the mean rank) give Friedman's test, corrected for ties; two arms differ where
their mean ranks are at least :math:`CD = q_\alpha \sqrt{k (k + 1) / (6 N)}` apart (Nemenyi; :math:`q_\alpha` is the quantile of the
studentised range of k means with infinite degrees of freedom, divided by :math:`\sqrt 2`). The paired comparisons are t tests of the
differences over seeds, corrected by Holm.

References: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979. Demsar, "Statistical
comparisons of classifiers over multiple data sets", JMLR 2006 (Friedman, eq. 7 and Nemenyi, section 3.2.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import stats

from .statistics import Interval, paired

Column = Sequence[float | None]
"""A metric of one arm, by seed; None where it is missing."""


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: a hypothesis falls at level alpha where its adjusted p is at most alpha."""
    adjusted, largest = [0.0] * len(p), 0.0
    for step, index in enumerate(_ascending(p)):
        largest = max(largest, min(1.0, (len(p) - step) * p[index]))
        adjusted[index] = largest
    return adjusted


def holm_confidences(p: Sequence[float], confidence: float) -> list[float]:
    """The confidence at which each hypothesis was tested, for an interval that leaves zero out just where Holm's procedure decides.

    The smallest p was held against alpha / m, the next against alpha / (m - 1), and so on, up to the first that does not fall; all
    after it share its level.
    """
    alpha, steps, stopped = 1 - confidence, [confidence] * len(p), False
    level = alpha
    for step, index in enumerate(_ascending(p)):
        if not stopped:
            level = alpha / (len(p) - step)
            stopped = p[index] > level
        steps[index] = 1 - level
    return steps


def _ascending(p: Sequence[float]) -> list[int]:
    return sorted(range(len(p)), key=lambda index: p[index])


def ranks(columns: Sequence[Sequence[float]], *, higher: bool = True) -> np.ndarray:
    """Ranks of the arms in each seed, `(seeds, arms)`; 1 is best, ties share the mean rank."""
    table = np.asarray(columns, dtype=np.float64).T
    return np.asarray(stats.rankdata(-table if higher else table, axis=1))


def friedman(columns: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Friedman's chi-square, corrected for ties, and its p value, of at least two arms over the same seeds; 0 and 1 where all tie."""
    table = ranks(columns)
    seeds, arms = table.shape
    if arms < 2 or seeds < 1:
        raise ValueError(f"Friedman's test needs two arms and a seed, found {arms} and {seeds}")
    tied = sum(float(count**3 - count) for row in table for count in np.unique(row, return_counts=True)[1])
    correction = 1 - tied / (seeds * arms * (arms**2 - 1))
    if correction <= 0:
        return 0.0, 1.0
    sums = table.sum(axis=0)
    statistic = (12 / (seeds * arms * (arms + 1)) * float(sums @ sums) - 3 * seeds * (arms + 1)) / correction
    return statistic, float(stats.chi2.sf(statistic, arms - 1))


def critical_difference(arms: int, seeds: int, confidence: float) -> float:
    """How far apart the mean ranks of two of `arms` arms must be over `seeds` seeds (Nemenyi)."""
    q = float(stats.studentized_range.ppf(confidence, arms, np.inf)) / math.sqrt(2)
    return q * math.sqrt(arms * (arms + 1) / (6 * seeds))


def cliques(mean_rank: Mapping[str, float], difference: float) -> list[list[str]]:
    """Largest groups of arms, best first, whose mean ranks are all less than a critical difference apart; of two arms or more."""
    order = sorted(mean_rank, key=mean_rank.__getitem__)
    groups: list[list[str]] = []
    reached = 0
    for start, first in enumerate(order):
        group = [arm for arm in order[start:] if mean_rank[arm] - mean_rank[first] < difference]
        if len(group) > 1 and start + len(group) > reached:
            groups.append(group)
            reached = start + len(group)
    return groups


@dataclass(frozen=True)
class Pair:
    """Two arms of a ranking: `a` less `b`, over the seeds that have both."""

    a: str
    b: str
    mean: float
    low: float
    high: float
    p_adjusted: float


@dataclass(frozen=True)
class Ranking:
    """The arms of a study by one metric."""

    metric: str
    order: list[str]
    """Best mean rank first."""
    mean_rank: dict[str, float]
    friedman_p: float | None
    """None where fewer than two arms, or no seed, have the metric."""
    critical_difference: float | None
    cliques: list[list[str]]
    """Arms that the critical difference does not tell apart."""
    pairs: list[Pair]


def rank(
    metric: str,
    columns: Mapping[str, Column],
    *,
    better: Literal["higher", "lower"] = "higher",
    confidence: float = 0.95,
    baseline: str | None = None,
) -> Ranking:
    """Ranks arms by a metric.

    Ranks use the seeds in which every arm has the metric (an arm that never has it is left out); a pair uses the seeds that both have.

    Args:
        metric: its name, for the record.
        columns: by arm, one value a seed.
        better: whether more or less of the metric is better.
        confidence: of critical differences, and of the pairs together.
        baseline: compare each arm with this one; without it (or where it never has the metric), all pairs are compared.
    """
    there = {arm: list(map(_number, column)) for arm, column in columns.items() if any(map(math.isfinite, map(_number, column)))}
    full = [row for row in zip(*there.values(), strict=True) if all(map(math.isfinite, row))]
    names = list(there)
    if not full:
        return Ranking(metric, names, {}, None, None, [], _pairs(there, confidence, baseline))
    table = ranks(list(zip(*full, strict=True)), higher=better == "higher").mean(axis=0)
    mean_rank = {arm: float(value) for arm, value in sorted(zip(names, table, strict=True), key=lambda item: item[1])}
    if len(names) < 2:
        return Ranking(metric, names, mean_rank, None, None, [], [])
    difference = critical_difference(len(names), len(full), confidence)
    chance = friedman(list(zip(*full, strict=True)))[1]
    return Ranking(
        metric, list(mean_rank), mean_rank, chance, difference, cliques(mean_rank, difference), _pairs(there, confidence, baseline)
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _pairs(columns: Mapping[str, Sequence[float]], confidence: float, baseline: str | None) -> list[Pair]:
    wanted = list(combinations(columns, 2))
    if baseline is not None and baseline in columns:
        wanted = [(arm, baseline) for arm in columns if arm != baseline]
    both: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for a, b in wanted:
        rows = [row for row in zip(columns[a], columns[b], strict=True) if all(map(math.isfinite, row))]
        if len(rows) > 1:
            both[a, b] = ([x for x, _ in rows], [y for _, y in rows])
    chances = [paired(x, y, confidence).p for x, y in both.values()]
    levels = holm_confidences(chances, confidence)
    found = [paired(x, y, level) for (x, y), level in zip(both.values(), levels, strict=True)]
    return [_pair(names, interval, p) for names, interval, p in zip(both, found, holm(chances), strict=True)]


def _pair(names: tuple[str, str], found: Interval, p_adjusted: float) -> Pair:
    return Pair(*names, found.estimate, found.low, found.high, p_adjusted)
