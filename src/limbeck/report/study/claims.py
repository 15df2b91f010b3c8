"""Claims with their verdict and, drawn, the interval of the difference that decides them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..numbers import ABSENT, MINUS, finite, signed
from ..spread import confidence_of
from ..tracks import Scale, Tick, Track, scale
from .reading import Study

VERDICTS = ("holds", "fails", "undecided")
_TONES = {"holds": "good", "fails": "bad"}
_COMMON = 25.0
"""Intervals whose sizes differ by less than this are drawn on one scale."""


@dataclass(frozen=True)
class ClaimRow:
    """A claim as the page shows it."""

    text: str
    verdict: str
    tone: str
    estimate: str
    interval: str
    p: str
    seeds: str
    note: str
    track: Track | None


@dataclass(frozen=True)
class Claims:
    """The rows, and the ticks of their scale where all share one."""

    rows: tuple[ClaimRow, ...]
    ticks: tuple[Tick, ...]
    confidence: str
    common: bool
    """Whether all intervals are drawn on one scale."""

    def count(self, verdict: str) -> int:
        """How many claims came out so."""
        return sum(row.verdict == verdict for row in self.rows)


def claims(study: Study) -> Claims:
    """What became of the claims of a study. A claim holds where the whole interval lies above zero."""
    found = study.claims
    sizes = [size for claim in found if (size := _size(claim)) > 0]
    common = bool(sizes) and max(sizes) / min(sizes) <= _COMMON
    shared = scale([value for claim in found for value in _bounds(claim)], zero=True) if common else None
    base = confidence(study)
    rows = tuple(_row(claim, shared, base) for claim in found)
    return Claims(rows, shared.ticks(signed=True) if shared else (), confidence_of(base), common)


def confidence(study: Study) -> float:
    """The confidence of the study's intervals. Those of corrected claims have a higher one."""
    wanted = [finite(study.results.get("confidence")), *sorted(filter(None, (finite(c.get("confidence")) for c in study.claims)))]
    return next((value for value in wanted if value is not None and 0 < value < 1), 0.95)


def _bounds(claim: Mapping[str, Any]) -> list[float]:
    values = [finite(claim.get(key)) for key in ("low", "estimate", "high")]
    return [value for value in values if value is not None]


def _size(claim: Mapping[str, Any]) -> float:
    return max((abs(value) for value in _bounds(claim)), default=0.0)


def _row(claim: Mapping[str, Any], shared: Scale | None, base: float) -> ClaimRow:
    verdict = str(claim.get("verdict") or "undecided")
    middle, low, high = (finite(claim.get(key)) for key in ("estimate", "low", "high"))
    estimate = ABSENT if middle is None else _number(middle, _size(claim))
    interval = "" if low is None or high is None else f"[{_number(low, _size(claim))}, {_number(high, _size(claim))}]"
    own = finite(claim.get("confidence"))
    interval += f" {confidence_of(own)}" if interval and own is not None and abs(own - base) > 1e-9 else ""
    raw, adjusted = finite(claim.get("p")), finite(claim.get("p_adjusted"))
    p = _p(adjusted if adjusted is not None else raw)
    text = str(claim.get("text") or "")
    seeds = claim.get("seeds")
    count = len(seeds) if isinstance(seeds, list) else seeds
    words = "" if finite(count) is None else str(count)
    tone = _TONES.get(verdict, "open")
    return ClaimRow(text, verdict, tone, estimate, interval, p, words, note(claim), _track(claim, shared, tone))


def note(claim: Mapping[str, Any]) -> str:
    """The reason that came with a verdict, and how many seeds would decide what is undecided."""
    reason = str(claim.get("reason") or "").strip()
    needed = finite(claim.get("needed_seeds"))
    parts = [reason[:1].upper() + reason[1:].rstrip(".") + "."] if reason else []
    if claim.get("verdict") == "undecided" and needed is not None and "seeds" not in reason:
        parts.append(f"About {needed:,.0f} seeds would decide it.")
    return " ".join(parts)


def _track(claim: Mapping[str, Any], shared: Scale | None, tone: str) -> Track | None:
    middle, low, high = (finite(claim.get(key)) for key in ("estimate", "low", "high"))
    if middle is None:
        return None
    reach = _size(claim) * 1.08 or 1.0
    own = shared or Scale(-reach, reach)
    ends = None if low is None or high is None else (own.place(low), own.place(high))
    said = f"estimate {_number(middle, _size(claim))}"
    if low is not None and high is not None:
        said += f", interval from {_number(low, _size(claim))} to {_number(high, _size(claim))}"
    return Track(said, own.place(middle), ends[0] if ends else None, ends[1] if ends else None, own.place(0.0), tone=tone)


def _number(value: float, size: float) -> str:
    """A signed number with three digits of the largest one of its row."""
    if size <= 0:
        return signed(value, 3)
    decimals = 2 - math.floor(math.log10(size))
    if not -6 < decimals < 8:
        return f"{value:+.2e}".replace("-", MINUS)
    text = signed(round(value, decimals), max(decimals, 0))
    whole, dot, rest = text.partition(".")
    return f"{whole[0]}{int(whole[1:]):,}{dot}{rest}" if whole[1:].isdigit() else text


def _p(value: float | None) -> str:
    if value is None:
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_text(value: Any) -> str:
    """A p-value as it stands in a table."""
    return _p(finite(value))


def summary(found: Claims) -> str:
    """How many claims hold: `2 of 3 claims hold, 1 is undecided`."""
    total = len(found.rows)
    if not total:
        return ""
    if total == 1:
        verdict = found.rows[0].verdict
        return {"holds": "Its claim holds.", "fails": "Its claim fails."}.get(verdict, "Its claim is undecided.")
    parts = [f"{found.count('holds')} of {total} claims hold"]
    if failed := found.count("fails"):
        parts.append(f"{failed} {_verb(failed, 'fails', 'fail')}")
    if still := total - failed - found.count("holds"):
        parts.append(f"{still} {_verb(still, 'is', 'are')} undecided")
    return ", ".join(parts) + "."


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
