"""The figures of a report, drawn so small that their text keeps its size on a phone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from .curves import Curve, wants_log
from .drawing import Panel, linear, logarithmic, room_beside, svg
from .numbers import finite
from .svg import COLOUR, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.8, 3.0  # inches at 72 units: about 345 CSS pixels wide, a phone's column
_STYLES = ("-", "--", ":", "-.")
Scale = Literal["percent", "number", "auto"]


def slug(text: str) -> str:
    """A text as a part of an id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def line_figure(found: Sequence[Curve], name: str, description: str, *, colours: Sequence[str] = (), scale: Scale = "auto") -> Markup:
    """Curves over updates; on a logarithmic axis where they span much.

    Args:
        found: the curves, at least one.
        name: its id on the page.
        description: text for those who cannot see it.
        colours: one a curve; the palette where absent.
        scale: `percent` for shares.
    """
    xs, ys = [x for curve in found for x in curve.x], [y for curve in found for y in curve.y]
    percent = scale == "percent"
    upright = logarithmic(min(ys), max(ys)) if not percent and wants_log(found) else linear(min(ys), max(ys), percent=percent)
    left, bottom = room_beside(upright, called=False), 38.0
    panel = Panel(left, 6.0, 72 * WIDTH - left - 14, 72 * HEIGHT - 6 - bottom, linear(min(xs), max(xs), margin=0.02, whole=True), upright)
    chosen = list(colours) or [SERIES[i % len(SERIES)] for i in range(len(found))]
    for i, curve in enumerate(found):
        style = _STYLES[i // len(SERIES) % len(_STYLES)] if not colours else _STYLES[chosen[:i].count(chosen[i]) % len(_STYLES)]
        panel.line(curve.x, curve.y, chosen[i], style=style)
        if len(curve.x) < 3:
            panel.dots(curve.x, curve.y, chosen[i], 2.0)
    return svg([panel.drawn(below="update")], 72 * WIDTH, 72 * HEIGHT, name, description)


def reliability_figure(bins: Mapping[str, Any], role: str, name: str, description: str) -> Markup | None:
    """Accuracy over confidence with the diagonal of perfect calibration, and the share of examples in each bin below.

    Returns:
        None where no bin holds an example.
    """
    rows = reliability_rows(bins)
    if not rows:
        return None
    total, colour = sum(count for *_, count in rows), COLOUR[role]
    across = linear(0.0, 1.0, margin=0.0, percent=True)
    most = max(count for *_, count in rows) / total
    above, below = linear(0.0, 1.02, margin=0.0, percent=True), linear(0.0, 1.05 * most, margin=0.0, percent=True, most=3)
    left = room_beside(max(above, below, key=lambda axis: max(map(len, axis.labels))), called=True)
    width, tall = 72 * WIDTH - left - 14, 72 * 4.4 - 6 - 10 - 38
    upper = Panel(left, 6.0, width, 0.8 * tall, across, above)
    lower = Panel(left, 6.0 + 0.8 * tall + 10, width, 0.2 * tall, across, below)
    for low, high, confidence, accuracy, count in rows:
        wide, middle = (high - low) * 0.86, (low + high) / 2
        upper.bar(middle, accuracy, wide, colour, 0.35)
        upper.line([confidence, confidence], [confidence, accuracy], colour, width=1.2)
        upper.dots([confidence], [accuracy], colour, 2.25)
        lower.bar(middle, count / total, wide, colour, 0.6)
    upper.line([0, 1], [0, 1], COLOUR["muted"], width=1.0, style="--")
    panels = [upper.drawn(below="", beside="accuracy", numbers=False), lower.drawn(below="confidence", beside="share")]
    return svg(panels, 72 * WIDTH, 72 * 4.4, name, description)


def reliability_rows(bins: Mapping[str, Any]) -> list[tuple[float, float, float, float, float]]:
    """Lower edge, upper edge, mean confidence, accuracy and count of every bin that holds examples."""
    edges = bins.get("edges") or []
    columns = (edges, edges[1:], bins.get("confidence") or [], bins.get("accuracy") or [], bins.get("count") or [])
    rows = []
    for row in zip(*columns, strict=False):
        low, high, confidence, accuracy, count = map(finite, row)
        if None not in (low, high, confidence, accuracy, count) and count:
            rows.append((low, high, confidence, accuracy, count))
    return rows


def finish(axes: Axes) -> None:
    """What all axes share: a quiet grid, short ticks, little room."""
    axes.grid(axis="y")
    axes.tick_params(length=3, pad=3)
    axes.margins(x=0.02)


def plain_log(axes: Axes) -> None:
    """Round numbers beside a logarithmic axis, without exponents."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    subs = (1.0,) if high / low > 1000 else (1.0, 3.0)
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
