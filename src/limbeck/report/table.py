"""The table of teacher, alone and distilled: one row a quantity, for the terminal and for the page alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .numbers import ABSENT, amount, finite, joules, metric, milliseconds, percent, plain, primary_metric, size

_ROLES = {"teacher": 0, "peer": 1, "before": 2, "alone": 3, "distilled": 4, "fused": 5}
_STUDENTS = ("peer", "alone", "distilled", "fused")


@dataclass(frozen=True)
class Row:
    """One quantity, over all models."""

    title: str
    values: tuple[str, ...]
    """One text a model; an en dash where it has none."""
    best: tuple[bool, ...] = ()
    """Which of them is the better one of the students (never the teacher, which is expected to win)."""
    help: str = ""


@dataclass(frozen=True)
class Table:
    """The columns (models) and rows (quantities) of a run."""

    models: tuple[str, ...]
    """Names in results.json."""
    roles: tuple[str, ...]
    """`teacher`, `peer`, `before` (the student as its last stage began), `alone`, `distilled` or `fused` (several models), one a model."""
    titles: tuple[str, ...]
    references: tuple[str, ...]
    rows: tuple[Row, ...]


def role_of(name: str, model: Mapping[str, Any]) -> str:
    """The role of a model; told from its name where results.json does not say it."""
    role = model.get("role")
    if role in _ROLES:
        return str(role)
    return {"alone": "alone", "student": "distilled"}.get(name, "teacher")


def ordered(models: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Name, role and contents of the models: teachers, peers, the student before, alone and distilled, and what is fused."""
    found = [(name, role_of(name, model), model) for name, model in _with_before(models).items() if isinstance(model, Mapping)]
    return sorted(found, key=lambda item: _ROLES[item[1]])


FLIPS = {
    "knowledge_gain": ("Knowledge gained", "test examples that it got wrong before its last stage and gets right now"),
    "knowledge_loss": ("Knowledge lost", "test examples that it got right before its last stage and gets wrong now"),
    "positive_flips": ("Teacher knows better", "test examples that it gets wrong and its teacher right"),
    "negative_flips": ("Knows better than teacher", "test examples that it gets right and its teacher wrong"),
    "teacher_share": (
        "Teacher surer at first",
        "test examples whose label its teacher found more probable than it did then",
    ),
}
"""Rows on what a student that already knew something gained and forgot."""


def summary_table(results: Mapping[str, Any]) -> Table:
    """The comparison of the models of a results.json.

    Rows are the metrics that any model has, the agreement with the teacher, and the cost.
    """
    models = ordered(results.get("models") or {})
    entries = [model for _, _, model in models]
    roles = tuple(role for _, role, _ in models)
    teachers = roles.count("teacher")
    titles = tuple(_title(name, role, teachers) for name, role, _ in models)
    rows = [*_metric_rows(entries, roles), *_recovered_row(entries, roles)]
    rows += [*_agreement_rows(entries), *_flip_rows(entries), *_cost_rows(entries)]
    references = tuple(_short(str(model.get("reference") or "")) for model in entries)
    return Table(tuple(name for name, _, _ in models), roles, titles, references, tuple(rows))


def _short(reference: str) -> str:
    """A reference with no more of a path than its last two parts, so that columns stay narrow."""
    scheme, colon, rest = reference.rpartition(":")
    parts = rest.split("/")
    return f"{scheme}{colon}…/{'/'.join(parts[-2:])}" if len(parts) > 3 or (rest.startswith("/") and len(parts) > 2) else reference


def _with_before(models: Mapping[str, Any]) -> dict[str, Any]:
    """The models, and the student as its last stage began, where that is known."""
    first = (models.get("student") or {}).get("before")
    return {**models, "before": {**first, "role": "before"}} if first and "before" not in models else dict(models)


def _recovered_row(entries: list[Mapping[str, Any]], roles: tuple[str, ...]) -> list[Row]:
    values = [finite(model.get("recovered")) for model in entries]
    if all(value is None for value in values):
        return []
    help_ = "in negative log-likelihood: 0% is the student before, 100% its teacher"
    return [Row("Gap recovered", tuple(_text(percent, value) for value in values), _best(values, roles, lower=False), help_)]


def _title(name: str, role: str, teachers: int) -> str:
    if role in ("peer", "fused"):
        return name
    if role == "teacher" and (teachers > 1 or name != "teacher"):
        return name.capitalize() if name == "teacher" else name
    return role.capitalize()


def _metric_rows(entries: list[Mapping[str, Any]], roles: tuple[str, ...]) -> list[Row]:
    keys = list(dict.fromkeys(key for model in entries for key in (model.get("metrics") or {})))
    main = primary_metric({str(i): model for i, model in enumerate(entries)})
    keys.sort(key=lambda key: 0 if main is not None and key == main.key else 1 if key == "ece" else 2)
    rows = []
    for known in map(metric, keys):
        values = [finite((model.get("metrics") or {}).get(known.key)) for model in entries]
        best = _best(values, roles, lower=known.better == "lower") if known.better != "neither" else ()
        rows.append(Row(known.title, tuple(known.text(v) for v in values), best, known.help))
    return rows


def _agreement_rows(entries: list[Mapping[str, Any]]) -> list[Row]:
    agreements = [model.get("agreement") or {} for model in entries]
    keys = list(dict.fromkeys(key for agreement in agreements for key in agreement))
    return [
        Row(title, tuple(_text(text, agreement.get(key)) for agreement in agreements), (), help_)
        for key in keys
        for title, text, help_ in [agreement_metric(key)]
    ]


def agreement_metric(key: str) -> tuple[str, Callable[[float], str], str]:
    """Title, writer and explanation of an entry of `agreement`."""
    known: dict[str, tuple[str, Callable[[float], str], str]] = {
        "top1": ("Agreement with teacher", percent, "same prediction as the teacher"),
        "kl": ("KL from teacher", plain, "mean divergence from the teacher's probabilities"),
        "right_teacher_wrong": ("Right where teacher is wrong", percent, "of the examples that the teacher gets wrong"),
        "alpha": ("Agreement of three", plain, "Krippendorff's alpha of student, teacher and labels: 1 is full agreement, 0 chance"),
    }
    if key in known:
        return known[key]
    if key.startswith("train_"):
        title, write, help_ = agreement_metric(key.removeprefix("train_"))
        return f"{title}, training examples", write, help_
    # e.g. agreement where the teacher is right, where it is wrong
    return key.replace("_", " ").replace("top1", "agreement,").capitalize(), percent if key.startswith("top1") else plain, ""


def _flip_rows(entries: list[Mapping[str, Any]]) -> list[Row]:
    found = [model.get("flips") or {} for model in entries]
    return [
        Row(title, tuple(_text(percent, flips.get(key)) for flips in found), (), help_)
        for key, (title, help_) in FLIPS.items()
        if any(key in flips for flips in found)
    ]


def _cost_rows(entries: list[Mapping[str, Any]]) -> list[Row]:
    rows = []
    for key, title, write, help_ in COSTS:
        values = [finite((model.get("cost") or {}).get(key)) for model in entries]
        if any(value is not None for value in values):
            rows.append(Row(title, tuple(write(v) for v in values), (), help_))
    return rows


def _text(write: Callable[[float], str], value: Any) -> str:
    number = finite(value)
    return ABSENT if number is None else write(number)


def _best(values: list[float | None], roles: tuple[str, ...], *, lower: bool) -> tuple[bool, ...]:
    students = [value for value, role in zip(values, roles, strict=True) if role in _STUDENTS and value is not None]
    if len(students) < 2 or len(set(students)) == 1:
        return ()
    top = min(students) if lower else max(students)
    return tuple(value == top and role in _STUDENTS for value, role in zip(values, roles, strict=True))


COSTS: tuple[tuple[str, str, Callable[[Any], str], str], ...] = (
    ("parameters", "Parameters", amount, ""),
    ("flops", "FLOPs", amount, "one example, forward"),
    ("bytes", "Size", size, "weights as stored"),
    ("latency_ms", "Latency", milliseconds, "median, batch of one, on the machine of the run"),
    ("latency_p99_ms", "Latency, 99th percentile", milliseconds, "smallest batch that was measured"),
    ("first_token_ms", "Time to the first token", milliseconds, "one prompt by itself"),
    ("next_token_ms", "Time of a further token", milliseconds, "one prompt by itself"),
    ("throughput", "Throughput", amount, "examples a second, largest batch that was measured"),
    ("peak_bytes", "Peak memory", size, "weights and what the largest batch takes"),
    ("energy_j", "Energy", joules, "an example of the largest batch, of the whole platform"),
)
"""Key in `cost`, title, writer and explanation."""
