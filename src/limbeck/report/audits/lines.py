"""Lines of several models, each within a band from its lowest to its highest run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from markupsafe import Markup

from ..figures import Key
from ..plots import HEIGHT, WIDTH, finish
from ..svg import COLOUR, inline_svg, settings
from .subjects import Subject

DASHES = ("solid", "dashed", "dotted")


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
    """The lines as an `<svg>`; `name` is the prefix of its ids."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    with mpl.rc_context(settings()):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        place: Any = figure.add_subplot()
        for i, line in enumerate(lines):
            colour = COLOUR[line.subject.variable]
            if any(len(own) > 1 for own in line.values):
                low, high = ([edge(own) for own in line.values] for edge in (min, max))
                place.fill_between(line.x, low, high, color=colour, alpha=0.14, linewidth=0)
            place.plot(line.x, line.middle, linestyle=_dash(i), color=colour, linewidth=1.6, marker="o", markersize=4)
        if axes.percent:
            place.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        if axes.limits is not None:
            place.set_ylim(*axes.limits)
        if axes.ticks is None:
            place.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            place.set_xticks(list(axes.ticks), list(axes.ticks.values()))
        place.set_xlabel(axes.label)
        finish(place)
        return inline_svg(figure, name, description)


def keys(lines: Sequence[Line]) -> tuple[Key, ...]:
    """The legend."""
    return tuple(Key(line.subject.label, line.subject.variable, _dash(i)) for i, line in enumerate(lines))


def _dash(number: int) -> str:
    return DASHES[number % len(DASHES)]
