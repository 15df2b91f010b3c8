"""The metric against each cost, with the front of those that none beats in both."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..figures import Figure, Key
from ..lenient import mean
from ..numbers import Metric, metric
from ..plots import HEIGHT, WIDTH, finish
from ..spread import spread
from ..svg import COLOUR, inline_svg, settings
from .entries import SHOWN, Entry
from .reading import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = ("parameters", "flops", "bytes", "latency_ms", "latency", "latency_p50", "step_time", "energy")
"""Costs in the order of their figures; a study has some of them."""
DRAWN = ("parameters", "flops", "bytes", "latency_ms", "latency", "latency_p50", "step_time")


@dataclass(frozen=True)
class Point:
    """A model in the plane of a cost and the metric."""

    entry: Entry
    cost: float
    value: float
    deviation: float
    front: bool = False


@dataclass(frozen=True)
class CostRow:
    """A model of the table of costs."""

    entry: Entry
    value: str
    costs: tuple[str, ...]
    fronts: tuple[bool, ...]


@dataclass(frozen=True)
class Costs:
    """Figures and the table that says the same."""

    figures: tuple[Figure, ...]
    columns: tuple[str, ...]
    rows: tuple[CostRow, ...]
    same: tuple[str, ...]
    """Costs that are the same for every model, in words."""


def costs(study: Study, found: Sequence[Entry]) -> Costs | None:
    """Accuracy against cost of all models; None where no cost is known."""
    main = study.primary
    if main is None:
        return None
    keys = [key for key in COSTS if any(mean(entry.of(key)) is not None for entry in found)]
    if not keys:
        return None
    points = {key: front(_points(found, key, main), main) for key in keys}
    on = {key: {id(point.entry) for point in points[key] if point.front} for key in keys}
    wanted = [key for key in keys if key in DRAWN and len({point.cost for point in points[key]}) > 1]
    rows = []
    for entry in found:
        texts = tuple(metric(key).text(mean(entry.of(key))) for key in keys)
        rows.append(CostRow(entry, spread(entry.of(main.key), main), texts, tuple(id(entry) in on[key] for key in keys)))
    same = [f"{metric(key).noun} ({metric(key).text(points[key][0].cost)})" for key in keys if len({p.cost for p in points[key]}) == 1]
    figures = tuple(_figure(points[key], metric(key), main) for key in wanted)
    return Costs(figures, tuple(metric(key).title for key in keys), tuple(rows), tuple(same))


def front(points: Sequence[Point], main: Metric) -> list[Point]:
    """The points, those marked that no other matches at less cost or beats at the same."""
    sign = -1.0 if main.better == "lower" else 1.0
    marked = []
    for own in points:
        beaten = any(
            other.cost <= own.cost and sign * other.value >= sign * own.value and (other.cost, other.value) != (own.cost, own.value)
            for other in points
        )
        marked.append(Point(own.entry, own.cost, own.value, own.deviation, not beaten and main.better != "neither"))
    return marked


def _points(found: Sequence[Entry], key: str, main: Metric) -> list[Point]:
    points = []
    for entry in found:
        cost, value = mean(entry.of(key)), mean(entry.of(main.key))
        if cost is not None and value is not None:
            known = [each for each in entry.of(main.key) if each is not None]
            points.append(Point(entry, cost, value, statistics.stdev(known) if len(known) > 1 else 0.0))
    return points


def _figure(points: list[Point], cost: Metric, main: Metric) -> Figure:
    best = sorted((point for point in points if point.front), key=lambda point: point.cost)
    shown = points if len(points) <= SHOWN + 4 else best
    keys = tuple(Key(point.entry.label, point.entry.variable, shape="dot") for point in shown[: SHOWN + 4])
    said = "; ".join(f"{p.entry.label} {main.text(p.value)} at {cost.text(p.cost)}" for p in best)
    text = f"{main.title} against {cost.noun} of {len(points)} models. Not beaten in both: {said}."
    caption = "on the front: " + ", ".join(dict.fromkeys(point.entry.label for point in best)) if best else ""
    caption = caption if len(caption) < 160 else f"{len(best)} models are on the front"
    return Figure(f"{main.title} against {cost.noun}", _drawn(points, best, cost, main, text), caption, keys)


def _drawn(points: list[Point], best: list[Point], cost: Metric, main: Metric, text: str) -> Markup:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Drawing
    from matplotlib.ticker import PercentFormatter

    with mpl.rc_context(settings()):
        drawing = Drawing(figsize=(WIDTH, HEIGHT))
        axes = drawing.add_subplot()
        axes.plot([p.cost for p in best], [p.value for p in best], "--", color=COLOUR["muted"], linewidth=1.2, zorder=1)
        for point in points:
            colour = COLOUR[point.entry.variable]
            if point.deviation:
                low, high = point.value - point.deviation, point.value + point.deviation
                axes.plot([point.cost] * 2, [low, high], color=colour, linewidth=1.2, alpha=0.6, zorder=2)
            fill = colour if point.front else COLOUR["surface"]
            axes.plot([point.cost], [point.value], "o", color=colour, markerfacecolor=fill, markersize=6.5, markeredgewidth=1.6, zorder=3)
        _cost_axis(axes, [point.cost for point in points], cost)
        if main.style == "percent":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        finish(axes)
        axes.margins(0.08)
        return inline_svg(drawing, f"cost-{cost.key.replace('_', '-')}", text)


def _cost_axis(axes: Axes, values: Sequence[float], cost: Metric) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if min(values) > 0 and max(values) / min(values) > 5:
        axes.set_xscale("log")
        wide = max(values) / min(values) > 300
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 3.0), numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value, cost)))
    axes.set_xlabel(cost.noun)


def _short(value: float, cost: Metric) -> str:
    """A round number with a prefix: `30 k`."""
    if cost.style in ("milliseconds", "seconds"):
        factor = 1.0 if cost.style == "milliseconds" else 1000.0
        return f"{value * factor:g} ms" if value * factor < 1000 else f"{value * factor / 1000:g} s"
    unit = "B" if cost.style == "size" else ""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g} {prefix}{unit}"
    return f"{value:g} {unit}".strip()
