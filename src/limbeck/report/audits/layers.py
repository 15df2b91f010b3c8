"""How alike the layers of students and teachers are: of every layer of a student, that of the teacher which is most like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..figures import Figure
from ..lenient import listing, mapping
from ..numbers import ABSENT, Metric
from ..spread import spread
from .lines import Axes, Line, drawn, keys
from .parts import Numbers, Section
from .subjects import Subject, numbers

_CKA = Metric("cka", "CKA", "neither", "number")
STUDENT = "student"


@dataclass(frozen=True)
class Nearest:
    """A layer of a student."""

    name: str
    values: tuple[float, ...]
    """The highest CKA with a layer of the teacher, one a run."""
    teacher: str
    """That layer, of the first run."""


def layers(subjects: Sequence[Subject]) -> Section | None:
    """Lines over the student's layers from input to output, and the numbers; None where fewer than two layers were compared."""
    found = {s.label: rows for s in subjects if s.model == STUDENT and len(rows := _nearest(s.runs)) > 1}
    able = [subject for subject in subjects if subject.label in found and subject.model == STUDENT]
    if not able:
        return None
    names = list(dict.fromkeys(row.name for rows in found.values() for row in rows))
    by_name = {label: {row.name: row for row in rows} for label, rows in found.items()}
    listed = tuple((name, tuple(_text(by_name[subject.label].get(name)) for subject in able)) for name in names)
    caption = "CKA of each layer of the student with the layer of the teacher that is most like it."
    lead = (
        "Linear CKA between layers of the student and of its teacher on test examples: 1 where two layers arrange the examples alike, "
        "0 where they share nothing. The line follows the student's layers from input to output."
    )
    table = Numbers(caption, ("Layer", *(subject.label for subject in able)), listed)
    return Section("similarity", "Similarity of layers", lead, (_figure(able, found),), (), (table,))


def _nearest(runs: Sequence[Mapping[str, Any]]) -> list[Nearest]:
    """The layers of a student in their order, as far as all its runs have the same."""
    tables = [mapping(run.get("similarity")) for run in runs]
    tables = [table for table in tables if listing(table.get("cka"))]
    if not tables or any(table.get("student") != tables[0].get("student") for table in tables):
        return []
    rows = []
    for i, name in enumerate(map(str, listing(tables[0].get("student")))):
        each = [numbers(listing(table["cka"][i])) if i < len(table["cka"]) else [] for table in tables]
        if not all(each):
            continue
        names = listing(tables[0].get("teacher"))
        best = each[0].index(max(each[0]))
        rows.append(Nearest(name, tuple(map(max, each)), str(names[best]) if best < len(names) else ""))
    return rows


def _text(row: Nearest | None) -> str:
    if row is None:
        return ABSENT
    return f"{spread(row.values, _CKA)}{f', {row.teacher}' if row.teacher and len(row.values) == 1 else ''}"


def _figure(subjects: Sequence[Subject], found: Mapping[str, Sequence[Nearest]]) -> Figure:
    lines = []
    for subject in subjects:
        rows = found[subject.label]
        lines.append(Line(subject, tuple(map(float, range(1, len(rows) + 1))), tuple(row.values for row in rows)))
    said = [
        f"{line.subject.label}: "
        + ", ".join(f"{row.name} {value:.2f}" for row, value in zip(found[line.subject.label], line.middle, strict=True))
        for line in lines
    ]
    text = f"CKA of each layer of the student with the most similar one of the teacher. {'; '.join(said)}."
    svg = drawn(lines, Axes("layer of the student", limits=(0.0, 1.03)), "layers", text)
    legend = keys(lines) if len(lines) > 1 else ()
    return Figure("CKA with the most similar layer of the teacher", svg, "by the number of the student's layer", legend)
