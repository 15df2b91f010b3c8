"""Lines of several models, each within a band from its lowest to its highest run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from markupsafe import Markup

from ..drawing import Panel, linear, room_beside, svg
from ..figures import Key
from ..plots import HEIGHT, WIDTH
from ..svg import COLOUR
from .subjects import Subject

_STYLES = {"solid": "-", "dashed": "--", "dotted": ":"}
"""Of legends, and of the drawing."""


@dataclass(frozen=True)
class Line:
    """A model over some places, with one value a run at each of them."""

    subject: Subject
    x: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def middle(self) -> list[float]:
        """The mean at each place."""
        return [fmean(own) for own in self.values]


@dataclass(frozen=True)
class Axes:
    """What the axes are."""

    label: str
    """Of the places."""
    percent: bool = False
    ticks: Mapping[float, str] | None = None
    """Places and their text; whole numbers where absent."""
    limits: tuple[float, float] | None = None
    """Of the values."""


def drawn(lines: Sequence[Line], axes: Axes, name: str, description: str) -> Markup:
    """The lines as an `<svg>`; `name` is its id on the page."""
    ys = [value for line in lines for own in line.values for value in own]
    low, high = axes.limits or (min(ys), max(ys))
    upright = linear(low, high, margin=0.0 if axes.limits else 0.05, percent=axes.percent)
    xs = [x for line in lines for x in line.x]
    across = linear(min(xs), max(xs), margin=0.02, whole=True)
    if axes.ticks is not None:
        across = replace(across, ticks=tuple(axes.ticks), labels=tuple(axes.ticks.values()))
    left, bottom = room_beside(upright, called=False), 38.0
    panel = Panel(left, 6.0, 72 * WIDTH - left - 14, 72 * HEIGHT - 6 - bottom, across, upright)
    for i, line in enumerate(lines):
        colour = COLOUR[line.subject.variable]
        if any(len(own) > 1 for own in line.values):
            panel.band(line.x, [min(own) for own in line.values], [max(own) for own in line.values], colour, 0.14)
        panel.line(line.x, line.middle, colour, style=_STYLES[_dash(i)])
        panel.dots(line.x, line.middle, colour, 2.2)
    return svg([panel.drawn(below=axes.label)], 72 * WIDTH, 72 * HEIGHT, name, description)


def keys(lines: Sequence[Line]) -> tuple[Key, ...]:
    """The legend."""
    return tuple(Key(line.subject.label, line.subject.variable, _dash(i)) for i, line in enumerate(lines))


def _dash(number: int) -> str:
    return tuple(_STYLES)[number % len(_STYLES)]
