"""Several runs side by side."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .numbers import ABSENT, Metric, amount, duration, finite, metric, milliseconds, percent, plain, primary_metric
from .recipes import differences
from .rundir import RunFiles
from .table import role_of


@dataclass(frozen=True)
class Field:
    """A field of the comparison."""

    text: str
    best: bool = False
    tone: str = ""
    """`good` or `bad` for a difference."""


@dataclass(frozen=True)
class Comparison:
    """Columns, and a row of fields for every run."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Field, ...]], ...]


@dataclass(frozen=True)
class Group:
    """Runs of one recipe over several seeds."""

    label: str
    runs: int
    student: str
    alone: str
    gain: str


def compare(runs: Sequence[RunFiles]) -> Comparison:
    """The students of `runs`: metric, differences to the first run and to the student alone, further metrics and cost."""
    main = common_metric(runs)
    columns: list[tuple[str, list[Field]]] = []
    if main is not None:
        columns += _main_columns(runs, main)
    keys = dict.fromkeys(key for run in runs for key in (_of(run, "distilled").get("metrics") or {}) if main is None or key != main.key)
    for known in map(metric, keys):
        columns.append((known.title, _marked([_metric(run, "distilled", known) for run in runs], known)))
    for title, part, key, write in (
        ("Agreement", "agreement", "top1", percent),
        ("KL from teacher", "agreement", "kl", plain),
        ("Parameters", "cost", "parameters", amount),
        ("FLOPs", "cost", "flops", amount),
        ("Latency", "cost", "latency_ms", milliseconds),
    ):
        values = [finite((_of(run, "distilled").get(part) or {}).get(key)) for run in runs]
        if any(value is not None for value in values):
            columns.append((title, [Field(ABSENT if value is None else write(value)) for value in values]))
    columns.append(("Time", [Field(duration(run.results.get("seconds"))) for run in runs]))
    rows = tuple((run.name, tuple(fields[i] for _, fields in columns)) for i, run in enumerate(runs))
    return Comparison(tuple(title for title, _ in columns), rows)


def common_metric(runs: Sequence[RunFiles]) -> Metric | None:
    """The metric of the headline that most runs have."""
    found = [main for run in runs if (main := primary_metric(run.models))]
    return max(found, key=lambda main: sum(other.key == main.key for other in found)) if found else None


def over_seeds(runs: Sequence[RunFiles]) -> list[Group]:
    """Mean and standard deviation over the runs whose recipes differ in nothing but the seed; empty where there are none."""
    main = common_metric(runs)
    if main is None or any(not run.recipe for run in runs):
        return []
    rows = [row for row in differences([run.recipe for run in runs]) if row[0] != "seed" and not row[0].startswith("about.")]
    groups: dict[tuple[str, ...], list[RunFiles]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(tuple(values[i] for _, values in rows), []).append(run)
    groups = {key: members for key, members in groups.items() if len({run.results.get("seed") for run in members}) > 1}
    return [_group(", ".join(f"{row[0]} = {v or ABSENT}" for row, v in zip(rows, key, strict=True)), g, main) for key, g in groups.items()]


def _group(label: str, runs: Sequence[RunFiles], main: Metric) -> Group:
    student = [_metric(run, "distilled", main) for run in runs]
    alone = [_metric(run, "alone", main) for run in runs]
    gains = [main.gain(a, b) for a, b in zip(student, alone, strict=True) if a is not None and b is not None]
    spread = f"{main.delta(statistics.mean(gains))} (sd {main.delta(_sd(gains)).lstrip('+±')})" if gains else ABSENT
    return Group(label or "all runs", len(runs), _spread(student, main), _spread(alone, main), spread)


def _spread(values: Sequence[float | None], main: Metric) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ABSENT
    return f"{main.text(statistics.mean(known))} ± {main.delta(_sd(known)).lstrip('+±')}"


def _sd(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _main_columns(runs: Sequence[RunFiles], main: Metric) -> list[tuple[str, list[Field]]]:
    students = [_metric(run, "distilled", main) for run in runs]
    alone = [_metric(run, "alone", main) for run in runs]
    columns = [(main.title, _marked(students, main)), ("vs first run", [Field("")] + [_change(v, students[0], main) for v in students[1:]])]
    if any(value is not None for value in alone):
        columns.append(("vs alone", [_change(a, b, main) for a, b in zip(students, alone, strict=True)]))
        columns.append(("Alone", [Field(main.text(value)) for value in alone]))
    teachers = [_metric(run, "teacher", main) for run in runs]
    if any(value is not None for value in teachers):
        columns.append(("Teacher", [Field(main.text(value)) for value in teachers]))
    return columns


def _change(value: float | None, other: float | None, main: Metric) -> Field:
    if value is None or other is None:
        return Field(ABSENT)
    text = main.delta(value - other)
    gain = 0 if text.startswith("±") or main.better == "neither" else main.gain(value, other)
    return Field(text, tone="good" if gain > 0 else "bad" if gain < 0 else "")


def _marked(values: Sequence[float | None], known: Metric) -> list[Field]:
    present = [value for value in values if value is not None]
    top = None
    if known.better != "neither" and len(set(present)) > 1:
        top = min(present) if known.better == "lower" else max(present)
    return [Field(known.text(value), best=top is not None and value == top) for value in values]


def _metric(run: RunFiles, role: str, known: Metric) -> float | None:
    return finite((_of(run, role).get("metrics") or {}).get(known.key))


def _of(run: RunFiles, role: str) -> Mapping[str, Any]:
    found = [model for name, model in run.models.items() if role_of(name, model) == role]
    return found[0] if found else {}
