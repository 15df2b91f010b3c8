"""Tracks: marks on a common scale, drawn by the style sheet, so that they fit any width and any theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .numbers import Metric


@dataclass(frozen=True)
class Tick:
    """A number below a scale."""

    at: float
    text: str


@dataclass(frozen=True)
class Spot:
    """A mark of one of several models on one line."""

    at: float
    variable: str
    """CSS variable of its colour."""
    shape: str
    """`circle`, `square`, `diamond` or `ring`."""


@dataclass(frozen=True)
class Track:
    """Marks of one row; places are percentages of its width."""

    text: str
    """What it shows, for those who cannot see it."""
    at: float | None = None
    low: float | None = None
    high: float | None = None
    zero: float | None = None
    dots: tuple[float, ...] = ()
    spots: tuple[Spot, ...] = ()
    tone: str = ""
    variable: str = ""


@dataclass(frozen=True)
class Scale:
    """From values to places."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """The place of a value, from 0 to 100; values outside stick to the border."""
        if not math.isfinite(value) or self.high <= self.low:
            return 50.0
        return round(min(max(100 * (value - self.low) / (self.high - self.low), 0.0), 100.0), 2)

    def ticks(self, known: Metric | None = None, *, signed: bool = False, count: int = 5) -> tuple[Tick, ...]:
        """About `count` round numbers within the scale."""
        step = _round_step((self.high - self.low) / count)
        if step <= 0:
            return ()
        first = math.ceil(self.low / step - 1e-9)
        values = [i * step for i in range(first, first + 3 * count) if i * step <= self.high + 1e-9 * step]
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return tuple(Tick(self.place(value), _label(value, known, decimals, signed=signed)) for value in values)


def scale(values: Sequence[float], *, zero: bool = False) -> Scale:
    """A scale that holds all finite values with a little room; with `zero` it holds zero, too."""
    known = [value for value in values if math.isfinite(value)] + ([0.0] if zero else [])
    if not known:
        return Scale(0.0, 1.0)
    low, high = min(known), max(known)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(low - room, high + room)


def _round_step(step: float) -> float:
    if step <= 0 or not math.isfinite(step):
        return 0.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * nice for nice in (1, 2, 5, 10) if power * nice >= step * (1 - 1e-9))


def _label(value: float, known: Metric | None, decimals: int, *, signed: bool) -> str:
    percent = known is not None and known.style == "percent"
    if percent:
        value, decimals = 100 * value, max(0, decimals - 2)
    if known is not None and known.style not in ("percent", "number"):
        return known.text(value) if value else "0"
    text = f"{abs(value):.{decimals}f}" if decimals < 6 and abs(value) < 1e6 else f"{abs(value):.1e}"
    if not float(text):
        return "0%" if percent and not signed else "0"
    sign = "−" if value < 0 else "+" if signed else ""  # noqa: RUF001 (a true minus sign)
    return sign + text + ("%" if percent and not signed else "")
