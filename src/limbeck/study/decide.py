r"""Whether claims hold: by the differences of their sides over seeds, with an interval at the corrected confidence.

- **Both sides have a value for every seed** (`a.accuracy > b.accuracy + 0.01`): Student's interval of the paired differences.
- **One correlation against a number** (`spearman(*.ece, *.accuracy) > 0.8`): over all pairs of arm and seed, Fisher's interval, or the
  wider one that the spread between seeds gives.
- **One standard deviation against a number** (`std(a.accuracy) < 0.01`): the interval of normal values, from chi-square.
- **Another quantity of all seeds together** (`std(a.accuracy) < std(b.accuracy)`): the jackknife over seeds.

The two-sided interval wholly on the claimed side of zero: *holds*; wholly on the other side: *fails*; else *undecided*, with the number of
seeds that would decide it with power 0.8 if the difference and its spread are those observed. Seeds that agree exactly decide exactly
(equality fails `>` and upholds `>=`). One seed decides nothing. Chance makes a false claim hold with probability (1 - confidence) / 2.

Several claims of a study are corrected by Holm: each interval has the confidence at which its step was tested, so that it leaves zero out
just where the corrected p value is at most 1 - confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from .claims import CORRELATIONS, Call, Claim, Name, names
from .columns import Columns
from .multiple import holm, holm_confidences
from .statistics import (
    POWER,
    Correlation,
    Interval,
    correlation,
    correlation_interval,
    fisher,
    jackknife,
    needed_seeds,
    spread_interval,
    t_interval,
)

Outcome = Literal["holds", "fails", "undecided"]
Correction = Literal["holm", "none"]


class Values(Protocol):
    """What a study has measured."""

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds, in the order of the values."""
        ...

    def arms(self) -> Sequence[str]:
        """All arms, for the arm `*`."""
        ...

    def get(self, name: Name) -> Sequence[float | None]:
        """One value a seed; None (for all, perhaps) where an arm that exists has not that metric."""
        ...


@dataclass(frozen=True)
class Verdict:
    """A claim and what the seeds say about it."""

    text: str
    verdict: Outcome
    estimate: float | None
    """Left side less right side; None where no seed has both."""
    low: float | None
    high: float | None
    confidence: float
    """Of the interval from low to high, after correction."""
    p: float | None
    """Two-sided, of the sides being equal."""
    p_adjusted: float | None
    seeds: int
    """How many seeds it rests on."""
    needed_seeds: int | None
    """How many would decide it, where it is undecided; None where no number would, or nobody can say."""
    reason: str


@dataclass(frozen=True)
class _Evidence:
    """What a claim is decided by."""

    claim: Claim
    seeds: int
    differences: tuple[float, ...] = ()
    """One a seed (pseudo-values where the quantity is one of all seeds)."""
    scale: float = 0.0
    kind: Correlation | Literal["std"] | None = None
    r: float = math.nan
    bound: float = 0.0
    pairs: int = 0
    flipped: bool = False
    """Whether what is held against the bound is the right side."""
    missing: str = ""
    """Why nothing can be said."""
    estimate: float | None = None
    """What is known where nothing can be said."""
    notes: tuple[str, ...] = ()

    def interval(self, confidence: float) -> Interval | None:
        """The interval of left less right; None where nothing can be said."""
        if self.missing:
            return None
        if self.kind is None:
            return t_interval(self.differences, confidence, scale=self.scale)
        if self.kind == "std":
            found = spread_interval(self.differences, confidence, bound=self.bound)
        else:
            found = correlation_interval(self.kind, self.r, self.pairs, confidence, bound=self.bound, seeds=self.differences)
        if not self.flipped:
            return found
        return Interval(-found.estimate, -found.high, -found.low, found.p, -found.distance, found.deviation)


def decide(claims: Sequence[Claim], values: Values, *, confidence: float = 0.95, correction: Correction = "holm") -> list[Verdict]:
    """Decides claims, in their order.

    Args:
        claims: those of one study; the correction is over all of them.
        values: what the study measured.
        confidence: that no claim is decided wrongly by chance (with correction none: that one is not).
        correction: `holm` over the claims, or `none`.
    """
    evidence = [_gather(claim, values) for claim in claims]
    found = [item.interval(confidence) for item in evidence]
    chances = [1.0 if interval is None else interval.p for interval in found]
    levels, adjusted = [confidence] * len(claims), chances
    if correction == "holm":
        levels, adjusted = holm_confidences(chances, confidence), holm(chances)
    return [_verdict(item, level, p) for item, level, p in zip(evidence, levels, adjusted, strict=True)]


def _verdict(evidence: _Evidence, confidence: float, p_adjusted: float) -> Verdict:
    found, text = evidence.interval(confidence), evidence.claim.text
    if found is None:
        reason = _sentence([evidence.missing, *evidence.notes])
        return Verdict(text, "undecided", evidence.estimate, None, None, confidence, None, None, evidence.seeds, None, reason)
    outcome = _outcome(evidence.claim.comparison, found)
    needed = None
    if outcome == "undecided":
        needed = needed_seeds(found.distance, found.deviation, confidence, at_least=evidence.seeds + 1)
    reason = _sentence([_why(outcome, found, needed), *evidence.notes])
    return Verdict(text, outcome, found.estimate, found.low, found.high, confidence, found.p, p_adjusted, evidence.seeds, needed, reason)


def _outcome(comparison: str, found: Interval) -> Outcome:
    low, high = (found.low, found.high) if comparison.startswith(">") else (-found.high, -found.low)
    if found.deviation == 0:  # all seeds agree exactly
        return "holds" if low > 0 or (low == 0 and comparison.endswith("=")) else "fails"
    if low > 0:
        return "holds"
    return "fails" if high < 0 else "undecided"


def _why(outcome: Outcome, found: Interval, needed: int | None) -> str:
    if found.deviation == 0 and outcome != "undecided":
        return "both sides are equal in every seed" if found.estimate == 0 else "the difference is the same in every seed"
    if outcome != "undecided":
        return f"the interval lies {'above' if found.low > 0 else 'below'} 0"
    if needed is None:
        return "the interval contains 0, and no number of seeds would decide if the difference stays as small"
    return f"the interval contains 0; {needed} seeds would decide with power {POWER:g} if difference and spread stay as they are"


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(part for part in parts if part)
    return text[:1].upper() + text[1:] + "." if text else ""


def _gather(claim: Claim, values: Values) -> _Evidence:
    columns = Columns(claim, values)
    single = _single_call(claim, columns)
    if single is not None and single.call.function in CORRELATIONS:
        return _of_correlation(claim, columns, single)
    if not columns.kept:
        return _Evidence(claim, 0, missing="no seed has a value for both sides", notes=columns.notes)
    if columns.per_seed:
        return _of_seeds(claim, columns)
    if single is not None and single.call.function == "std" and len(columns.kept) > 1:
        return _of_spread(claim, columns, single)
    return _of_all(claim, columns)


def _of_seeds(claim: Claim, columns: Columns) -> _Evidence:
    left, right = columns.side(claim.left, columns.kept), columns.side(claim.right, columns.kept)
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if math.isfinite(a - b)]
    bad = len(left) - len(pairs)
    notes = (*columns.notes, f"{bad} seed{'s' * (bad > 1)} gave no finite number") if bad else columns.notes
    differences = tuple(a - b for a, b in pairs)
    scale = max((abs(value) for pair in pairs for value in pair), default=0.0)
    if len(pairs) < 2:
        why = "one seed shows no spread, so nothing can be said about others" if pairs else "no seed gave a finite number"
        return _Evidence(claim, len(pairs), missing=why, estimate=differences[0] if pairs else None, notes=notes)
    return _Evidence(claim, len(pairs), differences, scale, notes=notes)


def _of_all(claim: Claim, columns: Columns) -> _Evidence:
    """A quantity of all seeds together: pseudo-values of the difference."""
    kept = columns.kept

    def difference(chosen: Sequence[int]) -> float:
        positions = [kept[index] for index in chosen]
        return columns.side(claim.left, positions)[0] - columns.side(claim.right, positions)[0]

    whole = difference(range(len(kept)))
    estimate = whole if math.isfinite(whole) else None
    pseudo = tuple(jackknife(difference, len(kept))) if len(kept) > 1 else ()
    if not pseudo or not all(map(math.isfinite, pseudo)):
        why = "one seed shows no spread" if len(kept) == 1 else "too few seeds, or not a finite number without one of them"
        return _Evidence(claim, len(kept), missing=why, estimate=estimate, notes=columns.notes)
    scale = max(abs(columns.side(side, kept)[0]) for side in (claim.left, claim.right))
    return _Evidence(claim, len(kept), pseudo, scale * len(kept), notes=columns.notes)


@dataclass(frozen=True)
class _Single:
    """A claim that holds one function against a number."""

    call: Call
    bound: float
    flipped: bool
    """Whether the function is the right side."""


def _single_call(claim: Claim, columns: Columns) -> _Single | None:
    for one, other, flipped in ((claim.left, claim.right, False), (claim.right, claim.left, True)):
        if isinstance(one, Call) and not any(names(other)):
            return _Single(one, columns.side(other, [0])[0], flipped)
    return None


def _of_spread(claim: Claim, columns: Columns, single: _Single) -> _Evidence:
    """The standard deviation of one value over the seeds, held against a number."""
    values = [value for value in columns.side(single.call.arguments[0], columns.kept) if math.isfinite(value)]
    if len(values) < 2 or not math.isfinite(single.bound):
        return _Evidence(claim, len(values), missing="too few seeds gave a finite number", notes=columns.notes)
    return _Evidence(claim, len(values), tuple(values), kind="std", bound=single.bound, flipped=single.flipped, notes=columns.notes)


def _of_correlation(claim: Claim, columns: Columns, single: _Single) -> _Evidence:
    call, bound, flipped = single.call, single.bound, single.flipped
    kind, kept = cast("Correlation", call.function), columns.kept
    x, y = columns.pairs(call, kept)
    r, count = correlation(kind, x, y), len(x)
    estimate = None if math.isnan(r) else (bound - r if flipped else r - bound)
    if estimate is None or count < 4:
        why = f"a correlation needs 4 pairs, found {count}" if count < 4 else "one side does not vary"
        return _Evidence(claim, len(kept), missing=why, estimate=estimate, notes=columns.notes)

    def z(chosen: Sequence[int]) -> float:
        own = columns.pairs(call, [kept[index] for index in chosen])
        value = correlation(kind, *own)
        return math.nan if math.isnan(value) or len(own[0]) < 4 else fisher(value, len(own[0]))

    seeds = tuple(jackknife(z, len(kept))) if len(kept) > 1 else ()
    notes = (*columns.notes, f"over {count} pairs")
    return _Evidence(claim, len(kept), seeds, 0.0, kind, r, bound, count, flipped, notes=notes)
