"""Axes and what is drawn between them, as SVG: text stays text, and every colour is a variable of the page.

Units are those of the view box, 72 to the inch; x goes to the right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from .svg import VARIABLES

FONT = 11.0
CHARACTER = 6.2
"""Width of a digit in this size, about; the font is the page's."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_DASHES = {"-": "", "--": "6 3", ":": "1.6 2.6", "-.": "9 2.6 1.6 2.6"}


@dataclass(frozen=True)
class Axis:
    """What an axis shows, from one end to the other."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(low: float, high: float, *, margin: float = 0.05, percent: bool = False, whole: bool = False, most: int = 7) -> Axis:
    """An axis with round numbers.

    Args:
        low: least value.
        high: largest value; where it is the least as well, there is some room around it.
        margin: room at either end, as a share of what is between.
        percent: whether values are shares.
        whole: whether values are counts.
        most: ticks, at most.
    """
    room = (high - low) * margin if high > low else (abs(low) * 0.05 or 0.05)
    low, high = low - room, high + room
    step = max(_step((high - low) / most), float(whole))
    first = math.ceil(low / step - 1e-9)
    ticks = tuple(number * step for number in range(first, math.floor(high / step + 1e-9) + 1))
    return Axis(low, high, ticks, tuple(_written(tick, step, percent=percent) for tick in ticks))


def logarithmic(low: float, high: float) -> Axis:
    """A logarithmic axis with powers of ten, where they are few also three times these; `low` and `high` are above zero."""
    room = (high / low) ** 0.05
    low, high = low / room, high * room
    heads = (1.0,) if high / low > 1000 else (1.0, 3.0)
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    stride = max(math.ceil((last - first + 1) / 7), 1)
    powers = range(first - (stride == 1), last + 1, stride)
    ticks = tuple(head * 10.0**power for power in powers for head in heads if low <= head * 10.0**power <= high)
    return Axis(low, high, ticks, tuple(f"{tick:g}" for tick in ticks), log=True)


def _step(least: float) -> float:
    """The least round number that is no less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next((step * power for step in _STEPS if step * power >= least * (1 - 1e-9)), 10 * power)


def _written(tick: float, step: float, *, percent: bool) -> str:
    if percent:
        return _written(100 * tick, 100 * step, percent=False) + "%"
    if step < 1e-4 or abs(tick) >= 1e6:
        return f"{tick:g}"
    places = next(places for places in range(8) if abs(round(step, places) - step) < 1e-6 * step)
    return f"{tick + 0.0:.{places}f}"


@dataclass(frozen=True)
class Panel:
    """A pair of axes in a figure, and what is drawn between them."""

    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis
    parts: list[str] = field(default_factory=list)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a pair of values lies."""
        return self.left + self.width * self.x.share(x), self.top + self.height * (1 - self.y.share(y))

    def line(self, x: Sequence[float], y: Sequence[float], colour: str, *, width: float = 1.6, style: str = "-") -> None:
        """A line through points."""
        places = [self.point(a, b) for a, b in zip(x, y, strict=True)]
        path = "M" + " L".join(f"{a:.2f} {b:.2f}" for a, b in places)
        dashes = f' stroke-dasharray="{_DASHES[style]}"' if _DASHES[style] else ""
        stroke = f'stroke="{themed(colour)}" stroke-width="{width}" stroke-linejoin="round"{dashes}'
        self.parts.append(f'<path d="{path}" fill="none" {stroke}/>')

    def band(self, x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, alpha: float) -> None:
        """The area between two lines."""
        places = [self.point(a, b) for a, b in [*zip(x, high, strict=True), *reversed(list(zip(x, low, strict=True)))]]
        path = "M" + " L".join(f"{a:.2f} {b:.2f}" for a, b in places)
        self.parts.append(f'<path d="{path}Z" fill="{themed(colour)}" fill-opacity="{alpha}"/>')

    def dots(self, x: Sequence[float], y: Sequence[float], colour: str, radius: float) -> None:
        """A disc at each point."""
        for a, b in (self.point(*pair) for pair in zip(x, y, strict=True)):
            self.parts.append(f'<circle cx="{a:.2f}" cy="{b:.2f}" r="{radius}" fill="{themed(colour)}"/>')

    def bar(self, middle: float, height: float, width: float, colour: str, alpha: float) -> None:
        """A bar from zero up."""
        (left, top), (right, bottom) = self.point(middle - width / 2, height), self.point(middle + width / 2, 0.0)
        shape = f'x="{left:.2f}" y="{top:.2f}" width="{right - left:.2f}" height="{bottom - top:.2f}"'
        self.parts.append(f'<rect {shape} fill="{themed(colour)}" fill-opacity="{alpha}"/>')

    def drawn(self, *, below: str, beside: str = "", numbers: bool = True) -> str:
        """The panel: a quiet grid, what is drawn, then the axes.

        Args:
            below: what the horizontal axis is called.
            beside: what the vertical axis is called.
            numbers: whether there are numbers below.
        """
        right, bottom = self.left + self.width, self.top + self.height
        lines = []
        texts = []
        for value, label in zip(self.y.ticks, self.y.labels, strict=True):
            y = self.point(self.x.low, value)[1]
            lines += [_rule(self.left, y, right, y, 0.7), _rule(self.left - 3, y, self.left, y, 0.8)]
            texts.append(_text(self.left - 6, y + 0.35 * FONT, label, "end"))
        for value, label in zip(self.x.ticks, self.x.labels, strict=True):
            x = self.point(value, self.y.low if not self.y.log else self.y.high)[0]
            lines.append(_rule(x, bottom, x, bottom + 3, 0.8))
            texts += [_text(x, bottom + 6 + 0.8 * FONT, label, "middle")] if numbers else []
        axes = [_rule(self.left, self.top, self.left, bottom, 0.8), _rule(self.left, bottom, right, bottom, 0.8)]
        texts += [_text((self.left + right) / 2, bottom + 10 + 1.8 * FONT, below, "middle")] if below else []
        if beside:
            texts.append(_text(0.9 * FONT, (self.top + bottom) / 2, beside, "middle", turned=True))
        return "".join([*lines, *self.parts, *axes, *texts])


def room_beside(axis: Axis, *, called: bool) -> float:
    """How much room a vertical axis needs for its numbers, and for its name where it has one."""
    return 8 + CHARACTER * max(map(len, axis.labels), default=0) + (1.4 * FONT if called else 0)


def svg(panels: Sequence[str], width: float, height: float, name: str, description: str) -> Markup:
    """Panels as an `<svg>` element for the body of a page.

    Args:
        panels: as `Panel.drawn` gives them.
        width: of the figure.
        height: of the figure.
        name: its id on the page.
        description: what it shows, for those who cannot see it.
    """
    view = f"0 0 {width:g} {height:g}"
    head = f'<svg class="plot" id="{escape(name)}-figure" role="img" aria-label="{escape(description)}" viewBox="{view}">'
    return Markup(f"{head}{''.join(panels)}</svg>")  # noqa: S704 (all texts in it are escaped)


def themed(colour: str) -> str:
    """The variable of the page that a colour of `svg.COLOUR` stands for."""
    return f"var({VARIABLES[colour]})"


def _rule(x1: float, y1: float, x2: float, y2: float, width: float) -> str:
    return f'<path d="M{x1:.2f} {y1:.2f} L{x2:.2f} {y2:.2f}" stroke="var(--line)" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, anchor: str, *, turned: bool = False) -> str:
    place = f'x="{x:.2f}" y="{y:.2f}"' + (f' transform="rotate(-90 {x:.2f} {y:.2f})"' if turned else "")
    return f'<text {place} text-anchor="{anchor}" fill="var(--muted)" style="font-size: {FONT:g}px">{escape(text)}</text>'
