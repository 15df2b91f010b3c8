"""The values of all arms: every seed as a dot, means and deviations of every metric, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..lenient import mean
from ..numbers import Metric
from ..spread import quantity, spread
from ..tracks import Tick, Track, scale
from .entries import Entry
from .reading import Study, of

FULL_TABLES = 60
"""With more models than this the tables of single seeds hold the primary metric only."""

DRAWN = ("fairness", "robustness", "membership", "batches", "train")
"""Sections of results whose many values have figures and tables of their own, or stand among the metrics already."""


@dataclass(frozen=True)
class Strip:
    """The values of one model, drawn."""

    entry: Entry
    text: str
    track: Track | None


@dataclass(frozen=True)
class SeedTable:
    """A metric: rows are models, columns seeds."""

    title: str
    help: str
    rows: tuple[tuple[Entry, tuple[str, ...], str], ...]


@dataclass(frozen=True)
class MeanTable:
    """Rows are models, columns metrics."""

    columns: tuple[tuple[str, str], ...]
    """Title and explanation."""
    rows: tuple[tuple[Entry, tuple[tuple[str, bool], ...]], ...]
    """Mean ± standard deviation, and whether it is the best of the students."""


@dataclass(frozen=True)
class SelectionRow:
    """How an arm was chosen: its validation metric, the test metric of the chosen and of the last weights."""

    entry: Entry
    valid: str
    chosen: str
    last: str


def strips(found: Sequence[Entry], main: Metric) -> tuple[tuple[Strip, ...], tuple[Tick, ...]]:
    """The primary metric of every model with one dot a seed, and the ticks of the common scale."""
    axis = scale([value for entry in found for value in entry.of(main.key) if value is not None])
    rows = []
    for entry in found:
        known = [value for value in entry.of(main.key) if value is not None]
        track = None
        if known:
            middle = sum(known) / len(known)
            said = f"{entry.label}: {', '.join(main.text(value) for value in known)}"
            track = Track(said, axis.place(middle), dots=tuple(axis.place(value) for value in known), variable=entry.variable)
        rows.append(Strip(entry, spread(entry.of(main.key), main), track))
    return tuple(rows), axis.ticks(main)


def mean_table(found: Sequence[Entry], main: Metric | None) -> MeanTable:
    """Mean ± standard deviation of everything that was measured."""
    keys = _keys(found, main)
    best = {key: _best(found, quantity(key)) for key in keys}
    rows = []
    for entry in found:
        cells = tuple((spread(entry.of(key), quantity(key)), entry.model == "student" and mean(entry.of(key)) == best[key]) for key in keys)
        rows.append((entry, cells))
    return MeanTable(tuple((quantity(key).title, quantity(key).help) for key in keys), tuple(rows))


def seed_tables(found: Sequence[Entry], main: Metric | None) -> list[SeedTable]:
    """Every value of every seed, one table a metric."""
    keys = _keys(found, main)
    if main is not None and len(found) > FULL_TABLES:
        keys = keys[:1]
    tables = []
    for key in keys:
        known = quantity(key)
        rows = tuple(
            (e, tuple(map(known.text, e.of(key))), spread(e.of(key), known)) for e in found if any(v is not None for v in e.of(key))
        )
        if rows:
            tables.append(SeedTable(known.title, known.help, rows))
    return tables


def selection(study: Study, found: Sequence[Entry]) -> list[SelectionRow]:
    """Validation and test of the chosen weights, and the test of the last ones, where the study holds them."""
    main = study.primary
    if main is None:
        return []
    rows = []
    for entry in found:
        arm = study.arm(entry.arm)
        if arm is None:
            continue
        chosen = entry.of(main.key)
        valid, last = of(arm.valid, entry.model, main.key), of(arm.last, entry.model, main.key)
        if mean(valid) is not None or mean(last) is not None:
            # a run whose last weights were handed on has no others
            final = [own if own is not None else handed for own, handed in zip(last or (None,) * len(chosen), chosen, strict=False)]
            rows.append(SelectionRow(entry, spread(valid, main), spread(chosen, main), spread(final, main)))
    return rows


def _keys(found: Sequence[Entry], main: Metric | None) -> list[str]:
    named = dict.fromkeys(key for entry in found for key in entry.values if key.partition(".")[0] not in DRAWN or "." not in key)
    keys = [key for key in named if any(mean(entry.of(key)) is not None for entry in found)]
    return sorted(keys, key=lambda key: 0 if main is not None and key == main.key else 1)


def _best(found: Sequence[Entry], known: Metric) -> float | None:
    means = {value for entry in found if entry.model == "student" and (value := mean(entry.of(known.key))) is not None}
    if known.better == "neither" or len(means) < 2:
        return None
    return min(means) if known.better == "lower" else max(means)
