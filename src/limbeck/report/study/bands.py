"""Learning curves: the mean over the seeds of an arm, within a band from the lowest to the highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..curves import Curve, curves, stage_names, wants_log
from ..figures import Figure, Key
from ..numbers import Metric, primary_metric
from ..plots import HEIGHT, WIDTH, Scale, finish, plain_log, slug
from ..rundir import RunFiles
from ..svg import COLOUR, inline_svg, settings
from .entries import Entry
from .reading import run_files

_LINES = {"solid": "-", "dashed": "--", "dotted": ":"}


@dataclass(frozen=True)
class Band:
    """The curves of several seeds as one."""

    entry: Entry
    seeds: int
    x: tuple[float, ...]
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def band_figures(shown: Sequence[Entry], main: Metric | None) -> list[Figure]:
    """The validation metric and the training loss of each arm's last stage, which is the student's; of a single arm of every stage."""
    runs = {entry.arm: [run for folder in entry.folders if folder is not None and (run := run_files(folder, ""))] for entry in shown}
    stages = list(dict.fromkeys(name for found in runs.values() for name in _stages(found, every=len(shown) == 1)))
    figures = []
    for stage in stages:
        valid = {entry.arm: [curves(run.log, stage, "valid") for run in runs[entry.arm]] for entry in shown}
        train = {entry.arm: [curves(run.log, stage, "train") for run in runs[entry.arm]] for entry in shown}
        measure = _measure(valid, main)
        wanted: list[tuple[str, str, Mapping[str, list[dict[str, Curve]]], Scale]] = []
        if measure is not None:
            wanted.append((measure.key, f"{stage}: validation {measure.noun}", valid, "percent" if measure.style == "percent" else "auto"))
        wanted.append(("total", f"{stage}: training loss", train, "auto"))
        for key, title, found, scale in wanted:
            bands = [band for entry in shown if (band := joined(entry, [own[key] for own in found[entry.arm] if key in own]))]
            if bands:
                figures.append(_figure(bands, f"band-{stage}-{key}", title, scale))
    return figures


def joined(entry: Entry, found: Sequence[Curve]) -> Band | None:
    """Mean, lowest and highest of several curves at the updates of the longest, as far as all of them reach."""
    if not found:
        return None
    from numpy import interp

    last = min(curve.x[-1] for curve in found)
    first = max(curve.x[0] for curve in found)
    grid = [x for x in max(found, key=lambda curve: len(curve.x)).x if first <= x <= last] or [last]
    rows = [interp(grid, curve.x, curve.y).tolist() for curve in found]
    columns = list(zip(*rows, strict=True))
    middle = tuple(sum(values) / len(values) for values in columns)
    return Band(entry, len(found), tuple(grid), middle, tuple(map(min, columns)), tuple(map(max, columns)))


def _stages(runs: Sequence[RunFiles], *, every: bool) -> list[str]:
    names = list(dict.fromkeys(name for run in runs for name in stage_names(run.log, run.results.get("stages") or [])))
    return names if every else names[-1:]


def _measure(valid: Mapping[str, list[dict[str, Curve]]], main: Metric | None) -> Metric | None:
    keys = list(dict.fromkeys(key for found in valid.values() for own in found for key in own))
    if main is not None and main.key in keys:
        return main
    return primary_metric({"": {"metrics": dict.fromkeys(keys)}})


def _figure(bands: Sequence[Band], name: str, title: str, scale: Scale) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Drawing
    from matplotlib.ticker import PercentFormatter

    seeds = sorted({band.seeds for band in bands})
    ends = "; ".join(f"{band.entry.label} from {band.middle[0]:.4g} to {band.middle[-1]:.4g}" for band in bands)
    with mpl.rc_context(settings()):
        drawing = Drawing(figsize=(WIDTH, HEIGHT))
        axes = drawing.add_subplot()
        for band in bands:
            colour, marker = COLOUR[band.entry.variable], "o" if len(band.x) < 3 else None
            axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(band.x, band.middle, _LINES[band.entry.dash], color=colour, linewidth=1.6, marker=marker, markersize=4)
        if scale == "percent":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        elif wants_log([Curve("", band.x, band.low) for band in bands]):
            axes.set_yscale("log")
            plain_log(axes)
        axes.set_xlabel("update")
        finish(axes)
        svg = inline_svg(drawing, slug(name), f"{title} over updates, mean over the seeds: {ends}.")
    keys = tuple(Key(band.entry.label, band.entry.variable, band.entry.dash) for band in bands) if len(bands) > 1 else ()
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return Figure(title, svg, f"mean and range of {count} seed{'s' if seeds[-1] > 1 else ''}", keys)
