"""Differences by class and by group of examples: where one arm helps and where it hurts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..lenient import listing, mapping, mean
from ..matrices import Cell, Grid
from ..numbers import Metric, finite
from ..spread import differences
from .entries import Entry, Results
from .reading import Study

CLASSES_SHOWN = 30
"""With more classes than this those are shown on which the arms differ most."""
COLUMNS_SHOWN = 12
RECALL = Metric("recall", "Recall", "higher", "percent")

Shares = dict[str, tuple[float | None, ...]]
"""Class or group, then one share a seed."""


def class_grid(found: Sequence[Entry], base: Entry, results: Results) -> Grid | None:
    """Per class the share that is recognised: of the reference, and the differences of others to it, in points."""
    shares = {id(entry): _recalls(entry, results) for entry in (base, *_columns(found, base))}
    return _grid(found, base, shares, RECALL)


def group_grid(study: Study, found: Sequence[Entry], base: Entry, results: Results) -> Grid | None:
    """The same per group of examples, by the metric of the study."""
    if study.primary is None:
        return None
    shares = {id(entry): _groups(entry, study.primary.key, results) for entry in (base, *_columns(found, base))}
    return _grid(found, base, shares, study.primary)


def _columns(found: Sequence[Entry], base: Entry) -> list[Entry]:
    return [entry for entry in found if entry is not base][:COLUMNS_SHOWN]


def _grid(found: Sequence[Entry], base: Entry, shares: Mapping[int, Shares], known: Metric) -> Grid | None:
    own = shares[id(base)]
    columns = [entry for entry in _columns(found, base) if shares[id(entry)]]
    if not own or not columns:
        return None
    gaps = {(name, id(entry)): differences(shares[id(entry)].get(name, ()), own[name]) for name in own for entry in columns}
    size = {name: max((abs(mean(gap) or 0.0) for key, gap in gaps.items() if key[0] == name), default=0.0) for name in own}
    names = sorted(own, key=lambda name: -size[name])[:CLASSES_SHOWN] if len(own) > CLASSES_SHOWN else list(own)
    top = max(size.values(), default=0.0) or 1.0
    rows = []
    for name in names:
        said = f"{base.label}, {name}: mean of {len(own[name])} seeds"
        first = Cell(known.text(mean(own[name])), 0.0, "plain", said)
        rows.append((first, *(_cell(gaps[name, id(entry)], top, entry.label, name, known) for entry in columns)))
    return Grid(tuple(names), (base.label, *(entry.label for entry in columns)), tuple(rows))


def _cell(gaps: Sequence[float], top: float, label: str, name: str, known: Metric) -> Cell:
    middle = mean(gaps)
    if middle is None:
        return Cell("", 0.0, "plain")
    text, *each = (known.delta(gap).removesuffix(" pts") for gap in (middle, *gaps))
    agreed = all(gap > 0 for gap in gaps) or all(gap < 0 for gap in gaps)
    neither = text.startswith("±") or not agreed or known.better == "neither"
    tone = "plain" if neither else "good" if known.gain(middle, 0.0) > 0 else "bad"
    return Cell(text, round(abs(middle) / top, 3), tone, f"{label}, {name}: {', '.join(each)}, seed by seed")


def _recalls(entry: Entry, results: Results) -> Shares:
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


def _groups(entry: Entry, key: str, results: Results) -> Shares:
    seeds = []
    for folder in entry.folders:
        run = {} if folder is None else results.of(folder)
        groups = mapping(mapping(mapping(mapping(run.get("models")).get(entry.model)).get("fairness")).get("groups"))
        seeds.append({str(name): finite(mapping(mapping(value).get("metrics")).get(key)) for name, value in groups.items()})
    return _by_name(seeds)


def _by_name(seeds: Sequence[Mapping[str, float | None]]) -> Shares:
    names = list(dict.fromkeys(name for found in seeds for name in found))
    return {name: tuple(found.get(name) for found in seeds) for name in names}
