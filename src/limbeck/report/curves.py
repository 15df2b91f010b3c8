"""Turns the lines of metrics.jsonl into curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .numbers import finite
from .rundir import LogLine

POINTS = 300
"""A curve is thinned to about so many points; more cannot be seen and would only make the file larger."""


@dataclass(frozen=True)
class Curve:
    """Values over updates."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


def curves(log: Iterable[LogLine], stage: str, kind: str) -> dict[str, Curve]:
    """The curves of a stage by the name of the value, in the order in which they first appear.

    Rounds of a stage follow one another on the x axis. Values that are no finite number are left out.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    offset, top, current = 0.0, 0.0, None
    for line in log:
        if line.stage != stage:
            continue
        if current is not None and line.round != current and line.step < top:
            offset += top
            top = 0.0
        current, top = line.round, max(top, line.step)
        if line.kind != kind:
            continue
        for name, raw in line.values.items():
            value = finite(raw)
            points.setdefault(name, [])
            if value is not None:
                points[name].append((offset + line.step, value))
    return {name: _curve(name, rows) for name, rows in points.items() if rows}


def stage_names(log: Iterable[LogLine], stages: Iterable[Mapping[str, object]]) -> list[str]:
    """The stages of a run in order, also those that only the log knows."""
    known = [str(stage.get("name")) for stage in stages if stage.get("name")]
    return list(dict.fromkeys([*known, *(line.stage for line in log)]))


def wants_log(found: Sequence[Curve]) -> bool:
    """Whether the values span so much (a factor of 30 or more, all above zero) that a linear axis hides the small ones."""
    values = [value for curve in found for value in curve.y]
    return bool(values) and min(values) > 0 and max(values) / min(values) >= 30


def _curve(name: str, rows: list[tuple[float, float]]) -> Curve:
    rows = sorted(dict(rows).items())  # the last of several values for one step counts (a resumed run repeats lines)
    step = math.ceil(len(rows) / POINTS)
    groups = [rows[i : i + step] for i in range(0, len(rows), step)]
    x = tuple(group[-1][0] for group in groups)
    return Curve(name, x, tuple(sum(value for _, value in group) / len(group) for group in groups))
