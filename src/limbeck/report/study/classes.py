"""Differences by class and by group of examples: where one arm helps and where it hurts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..matrices import Cell, Grid
from ..numbers import finite, percent, signed
from .entries import Entry, Results
from .reading import Study, listing, mapping, mean

CLASSES_SHOWN = 30
"""With more classes than this those are shown on which the arms differ most."""
COLUMNS_SHOWN = 12

Shares = dict[str, tuple[float | None, ...]]
"""Class or group, then one share a seed."""


def class_grid(study: Study, found: Sequence[Entry], base: Entry, results: Results) -> Grid | None:
    """Per class the share that is recognised: of the reference, and the differences of others to it, in points."""
    shares = {id(entry): _recalls(study, entry, results) for entry in (base, *_columns(found, base))}
    return _grid(found, base, shares)


def group_grid(found: Sequence[Entry], base: Entry, results: Results) -> Grid | None:
    """The same per group of examples, by accuracy."""
    shares = {id(entry): _groups(entry, results) for entry in (base, *_columns(found, base))}
    return _grid(found, base, shares)


def _columns(found: Sequence[Entry], base: Entry) -> list[Entry]:
    return [entry for entry in found if entry is not base][:COLUMNS_SHOWN]


def _grid(found: Sequence[Entry], base: Entry, shares: Mapping[int, Shares]) -> Grid | None:
    own = shares[id(base)]
    columns = [entry for entry in _columns(found, base) if shares[id(entry)]]
    if not own or not columns:
        return None
    gaps = {(name, id(e)): _gaps(shares[id(e)].get(name, ()), own[name]) for name in own for e in columns}
    size = {name: max((abs(mean(gap) or 0.0) for key, gap in gaps.items() if key[0] == name), default=0.0) for name in own}
    names = sorted(own, key=lambda name: -size[name])[:CLASSES_SHOWN] if len(own) > CLASSES_SHOWN else list(own)
    top = max(size.values(), default=0.0) or 1.0
    rows = []
    for name in names:
        share = mean(own[name])
        first = Cell("" if share is None else percent(share), 0.0, "plain", f"{base.label}, {name}: mean of {len(own[name])} seeds")
        rows.append((first, *(_cell(gaps[name, id(entry)], top, entry.label, name) for entry in columns)))
    return Grid(tuple(names), (base.label, *(entry.label for entry in columns)), tuple(rows))


def _gaps(values: Sequence[float | None], own: Sequence[float | None]) -> list[float]:
    return [a - b for a, b in zip(values, own, strict=False) if a is not None and b is not None]


def _cell(gaps: Sequence[float], top: float, label: str, name: str) -> Cell:
    middle = mean(gaps)
    if middle is None:
        return Cell("", 0.0, "plain")
    text = signed(100 * middle, 1)
    seeds = ", ".join(signed(100 * gap, 1) for gap in gaps)
    agreed = all(gap > 0 for gap in gaps) or all(gap < 0 for gap in gaps)
    tone = "plain" if text.startswith("±") or not agreed else "good" if middle > 0 else "bad"
    return Cell(text, round(abs(middle) / top, 3), tone, f"{label}, {name}: {seeds} points, seed by seed")


def _recalls(study: Study, entry: Entry, results: Results) -> Shares:
    seeds = []
    for folder in entry.folders:
        run = {} if folder is None else results.of(folder)
        model = mapping(mapping(run.get("models")).get(entry.model))
        names = [str(name) for name in listing(mapping(run.get("data")).get("classes"))]
        seeds.append(_recall(model.get("confusion"), names))
    return _by_name(seeds)


def _recall(matrix: Any, names: Sequence[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for i, row in enumerate(listing(matrix)):
        counts = [finite(value) or 0.0 for value in listing(row)]
        if i < len(counts):
            name = names[i] if i < len(names) else str(i)
            found[name if name not in found else f"{name} ({i})"] = counts[i] / sum(counts) if sum(counts) else None
    return found


def _groups(entry: Entry, results: Results) -> Shares:
    seeds = []
    for folder in entry.folders:
        run = {} if folder is None else results.of(folder)
        model = mapping(mapping(run.get("models")).get(entry.model))
        seeds.append({str(name): _accuracy(value) for name, value in mapping(model.get("groups")).items()})
    return _by_name(seeds)


def _accuracy(value: Any) -> float | None:
    return finite(mapping(value).get("accuracy")) if isinstance(value, dict) else finite(value)


def _by_name(seeds: Sequence[Mapping[str, float | None]]) -> Shares:
    names = list(dict.fromkeys(name for found in seeds for name in found))
    return {name: tuple(found.get(name) for found in seeds) for name in names}
