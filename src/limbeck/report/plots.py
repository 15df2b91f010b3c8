"""The figures of a report, drawn so small that their text keeps its size on a phone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from .curves import Curve, wants_log
from .numbers import finite
from .svg import COLOUR, SERIES, inline_svg, settings

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
        name: prefix of its ids.
        description: text for those who cannot see it.
        colours: one a curve; the palette where absent.
        scale: `percent` for shares.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    with mpl.rc_context(settings()):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_subplot()
        chosen = list(colours) or [SERIES[i % len(SERIES)] for i in range(len(found))]
        for i, curve in enumerate(found):
            marker = "o" if len(curve.x) < 3 else None
            style = _STYLES[i // len(SERIES) % len(_STYLES)] if not colours else _STYLES[chosen[:i].count(chosen[i]) % len(_STYLES)]
            axes.plot(curve.x, curve.y, style, color=chosen[i], linewidth=1.6, marker=marker, markersize=4, solid_joinstyle="round")
        if scale == "percent":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        elif wants_log(found):
            axes.set_yscale("log")
            plain_log(axes)
        axes.set_xlabel("update")
        finish(axes)
        return inline_svg(figure, name, description)


def reliability_figure(bins: Mapping[str, Any], role: str, name: str, description: str) -> Markup | None:
    """Accuracy over confidence with the diagonal of perfect calibration, and the share of examples in each bin below.

    Returns:
        None where no bin holds an example.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    rows = reliability_rows(bins)
    if not rows:
        return None
    total = sum(count for *_, count in rows)
    with mpl.rc_context(settings()):
        figure = Figure(figsize=(WIDTH, 4.4))
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        low, high, confidence, accuracy, count = (list(column) for column in zip(*rows, strict=True))
        widths, middles = [(b - a) * 0.86 for a, b in zip(low, high, strict=True)], [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        upper.bar(middles, accuracy, widths, color=COLOUR[role], alpha=0.35, linewidth=0)
        upper.vlines(confidence, confidence, accuracy, color=COLOUR[role], linewidth=1.2)
        upper.plot(confidence, accuracy, "o", color=COLOUR[role], markersize=4.5)
        lower.bar(middles, [each / total for each in count], widths, color=COLOUR[role], alpha=0.6, linewidth=0)
        upper.plot([0, 1], [0, 1], "--", color=COLOUR["muted"], linewidth=1)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
        lower.set(xlabel="confidence", ylabel="share")
        for axes in (upper, lower):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        lower.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        finish(upper)
        finish(lower)
        return inline_svg(figure, name, description)


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
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_ylim()
    subs = (1.0,) if high / low > 1000 else (1.0, 3.0)
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
