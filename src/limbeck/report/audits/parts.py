"""What a section of audits is made of: drawings, rows of marks on a common scale, and tables that say the same in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..figures import Figure, Key
from ..numbers import Metric
from ..tracks import Scale, Spot, Tick, Track, scale
from .subjects import SHAPES, Subject

ROWS_SHOWN = 16
"""Rows that are drawn; tables hold up to `ROWS_LISTED`."""
ROWS_LISTED = 60


@dataclass(frozen=True)
class ChartRow:
    """A name, its marks, and a number where there is one."""

    name: str
    track: Track | None
    text: str = ""
    variable: str = ""
    """CSS variable of the model that the row is of."""
    detail: str = ""


@dataclass(frozen=True)
class Chart:
    """Rows on a common scale."""

    title: str
    columns: tuple[str, ...]
    """What rows are, then what their number is, where they have one."""
    rows: tuple[ChartRow, ...]
    ticks: tuple[Tick, ...]
    caption: str = ""
    legend: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """A table: a name and a text a column."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str
    title: str
    lead: str
    figures: tuple[Figure, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Numbers, ...] = ()


def legend(subjects: Sequence[Subject]) -> tuple[Key, ...]:
    """Which mark is which model."""
    return tuple(Key(subject.label, subject.variable, shape=SHAPES[i % len(SHAPES)]) for i, subject in enumerate(subjects))


def marks(
    rows: Mapping[str, Sequence[float | None]], subjects: Sequence[Subject], known: Metric, details: Mapping[str, str] | None = None
) -> tuple[tuple[ChartRow, ...], tuple[Tick, ...]]:
    """A row for each name with one mark a model, and the ticks of the common scale.

    Args:
        rows: the value of every subject, by the name of the row; None where it has none.
        subjects: in the order of the values.
        known: what the values are.
        details: what is said below a name.
    """
    axis = scale([value for values in rows.values() for value in values if value is not None])
    found = []
    for name, values in rows.items():
        there = [(i, value) for i, value in enumerate(values) if value is not None]
        said = f"{name}: " + ", ".join(f"{subjects[i].label} {known.text(value)}" for i, value in there)
        spots = tuple(Spot(axis.place(value), subjects[i].variable, SHAPES[i % len(SHAPES)]) for i, value in there)
        reach = [axis.place(value) for _, value in there]
        track = Track(said, low=min(reach), high=max(reach), spots=spots) if there else None
        found.append(ChartRow(name, track, detail=(details or {}).get(name, "")))
    return tuple(found), axis.ticks(known)


def seeds(values: Sequence[float], subject: Subject, known: Metric, axis: Scale, *, zero: float | None = None) -> Track | None:
    """The values of a model on a scale, a dot each where there are several, and their mean."""
    if not values:
        return None
    middle = sum(values) / len(values)
    said = f"{subject.label}: {', '.join(map(known.text, values))}"
    dots = tuple(axis.place(value) for value in values) if len(values) > 1 else ()
    line = None if zero is None else axis.place(zero)
    return Track(said, axis.place(middle), zero=line, dots=dots, variable=subject.variable)
