"""How models do on groups of test examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ..lenient import mapping
from ..numbers import Metric
from ..spread import spread
from .parts import ROWS_LISTED, ROWS_SHOWN, Chart, Numbers, Section, legend, marks
from .subjects import Subject, numbers

WORST, GAP = "worst group", "gap"


def groups(subjects: Sequence[Subject], main: Metric | None) -> Section | None:
    """Marks for each group, those first on which the last subject does worst, and the numbers; None where no groups were asked for."""
    able = [subject for subject in subjects if _of(subject)]
    if not able or main is None:
        return None
    sections = [section for subject in able for section in subject.section("fairness")]
    names = list(dict.fromkeys(str(name) for section in sections for name in mapping(section.get("groups"))))
    values = {name: [_values(subject, name, main.key) for subject in able] for name in names}
    means = {name: [fmean(own) if own else None for own in found] for name, found in values.items()}
    chosen = sorted(names, key=lambda name: _badness(means[name], main))[:ROWS_SHOWN]
    sizes = {name: _size(sections, name) for name in names}
    rows, ticks = marks({name: means[name] for name in chosen}, able, main, sizes)
    column = str(sections[0].get("column") or "group")
    left = f"; {len(names) - len(chosen)} others are in the table" if len(names) > len(chosen) else ""
    chart = Chart("Groups", (column.capitalize(),), rows, ticks, f"{main.title} within a group{left}", legend(able))
    listed = [(f"{name} ({sizes[name]})", tuple(spread(own, main) for own in values[name])) for name in names[:ROWS_LISTED]]
    for title, key in ((WORST, f"worst_{main.key}"), (GAP, f"{main.key}_gap")):
        listed.append((title, tuple(spread(subject.metric(key), main) for subject in able)))
    caption = f"{main.title} within each group ({column}), in its worst one, and the largest difference between two."
    lead = (
        f"{main.title} of each model within groups of test examples ({column}). Small groups differ by chance: of n examples of which a "
        "share p is right, the share varies by about √(p(1-p)/n)."
    )
    table = Numbers(caption, ("Group", *(subject.label for subject in able)), tuple(listed))
    return Section("groups", "Groups", lead if main.style == "percent" else lead.partition(" Small")[0], (), (chart,), (table,))


def _of(subject: Subject) -> list[dict[str, Any]]:
    return [found for section in subject.section("fairness") if (found := mapping(section.get("groups")))]


def _values(subject: Subject, name: str, key: str) -> list[float]:
    return numbers(mapping(mapping(found.get(name)).get("metrics")).get(key) for found in _of(subject))


def _badness(values: Sequence[float | None], main: Metric) -> float:
    """What groups are sorted by: how well the last model does on them."""
    known = [value for value in values if value is not None]
    return 0.0 if not known else -known[-1] if main.better == "lower" else known[-1]


def _size(sections: Sequence[Mapping[str, Any]], name: str) -> str:
    found = numbers(mapping(mapping(section.get("groups")).get(name)).get("examples") for section in sections)
    if not found:
        return "size not known"
    low, high = (f"{value:,.0f}" for value in (min(found), max(found)))
    return f"{low} examples" if low == high else f"{low} to {high} examples"
