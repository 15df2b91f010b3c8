"""The sentence at the top of a report. It says what the numbers say, also where they disappoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .numbers import MINUS, Metric, factor, finite, primary_metric
from .table import ordered

Verdict = Literal["better", "worse", "equal", "unknown"]
_FACTORS = (("parameters", "smaller", "larger", "parameters"), ("latency_ms", "faster", "slower", "latency, batch of one"))


@dataclass(frozen=True)
class Tile:
    """A figure of the headline."""

    value: str
    label: str
    detail: str = ""
    variable: str = "ink"
    """CSS variable of its colour, that of the model in the figures."""


@dataclass(frozen=True)
class Headline:
    """Verdict, sentence, figures and reservations."""

    verdict: Verdict
    title: str
    text: str
    tiles: tuple[Tile, ...] = ()
    notes: tuple[str, ...] = ()


def headline(results: Mapping[str, Any]) -> Headline:
    """What came of the run.

    Args:
        results: the contents of results.json; any part of it may be absent.
    """
    by_role: dict[str, Mapping[str, Any]] = {}
    for name, role, model in ordered(results.get("models") or {}):
        if role not in by_role or name == role:
            by_role[role] = model
    main = primary_metric(results.get("models") or {})
    if main is None or "distilled" not in by_role:
        text = "The run holds no test results of a distilled student yet."
        return Headline("unknown", "No measured student", text, (), _unfinished(results))
    values = {role: finite((model.get("metrics") or {}).get(main.key)) for role, model in by_role.items()}
    verdict, title, text = _judge(main, values, _test_size(results))
    text += _recovered(main, by_role["distilled"])
    tiles = _tiles(main, values, by_role)
    return Headline(verdict, title, text, tuple(tiles), (*_unfinished(results), *_notes(main, values, results)))


def _judge(main: Metric, values: Mapping[str, float | None], test: int) -> tuple[Verdict, str, str]:
    student, alone, teacher = values.get("distilled"), values.get("alone"), values.get("teacher")
    name = main.noun
    if student is None:
        return "unknown", f"The student's {name} is no number", "Training or evaluation of the student ended without a finite result."
    behind = _against_teacher(main, student, teacher)
    if alone is None:
        text = f"The distilled student reaches {main.text(student)} {name}{behind}. What distillation adds is not known: the same student "
        return "unknown", f"{main.text(student)} {name}", text + "was not trained alone. Add baseline: true to the recipe."
    gain = main.gain(student, alone)
    difference = main.delta(student - alone).replace(" pts", " points")
    if not _resolvable(main, gain, alone, test):
        title = f"No clear difference ({difference})"
        text = f"The distilled student reaches {main.text(student)} {name}, the same student trained alone {main.text(alone)}{behind}. "
        return "equal", title, text + "The difference is within what the test set can resolve."
    if gain < 0:
        text = f"The distilled student reaches {main.text(student)} {name}, the same student trained alone {main.text(alone)}{behind}. "
        return "worse", f"Distillation did not help ({difference})", text + "Here training without the teacher is the better choice."
    closed = _gap_closed(main, student, alone, teacher)
    text = f"The distilled student reaches {main.text(student)} {name}; the same student trained alone {main.text(alone)}{behind}.{closed}"
    of = "of " if main.style == "percent" else ""
    return "better", f"Distillation helps: {difference} {of}{name}", text


def _against_teacher(main: Metric, student: float, teacher: float | None) -> str:
    if teacher is None:
        return ""
    relation = "which it surpasses" if main.gain(student, teacher) > 0 else ""
    return f" (teacher: {main.text(teacher)}{', ' + relation if relation else ''})"


def _gap_closed(main: Metric, student: float, alone: float, teacher: float | None) -> str:
    if teacher is None:
        return ""
    if main.key == "perplexity":  # the gap is one of the loss, whose exponential it is
        student, alone, teacher = math.log(student), math.log(alone), math.log(teacher)
    gap = main.gain(teacher, alone)
    if gap <= 0:
        return " The teacher itself is not ahead of the student alone, so there is no gap to close."
    share = main.gain(student, alone) / gap
    return " All of the gap to the teacher is closed." if share >= 1 else f" That closes {100 * share:.0f}% of the gap to the teacher."


def _recovered(main: Metric, student: Mapping[str, Any]) -> str:
    """A sentence on the way of a student of language from where it began towards its teacher."""
    first = finite(((student.get("before") or {}).get("metrics") or {}).get(main.key))
    share = finite(student.get("recovered"))
    if first is None:
        return ""
    far = "" if share is None else f"; {100 * share:.0f}% of the gap to the teacher is recovered".replace("-", MINUS)
    return f" Before its last stage it had {main.text(first)}{far}."


def _resolvable(main: Metric, gain: float, alone: float, test: int) -> bool:
    """Whether a gain exceeds one standard error of the difference of two accuracies, or half a percent of another metric."""
    if main.key != "accuracy" or test <= 0:
        return abs(gain) > 0.005 * abs(alone)
    return abs(gain) > math.sqrt(2 * max(alone * (1 - alone), 0) / test)


def _tiles(main: Metric, values: Mapping[str, float | None], models: Mapping[str, Mapping[str, Any]]) -> list[Tile]:
    labels = {"distilled": "distilled student", "alone": "same student, alone", "teacher": "teacher"}
    tiles = [Tile(main.text(values[role]), label, main.noun, role) for role, label in labels.items() if role in models]
    if "teacher" not in models:
        return tiles
    ours, theirs = models["distilled"].get("cost") or {}, models["teacher"].get("cost") or {}
    for key, more, less, detail in _FACTORS:
        a, b = finite(ours.get(key)), finite(theirs.get(key))
        if a and b:
            tiles.append(Tile(factor(max(a, b) / min(a, b)), f"{more if b >= a else less} than the teacher", detail))
    return tiles


def _notes(main: Metric, values: Mapping[str, float | None], results: Mapping[str, Any]) -> list[str]:
    notes = []
    test = _test_size(results)
    student = values.get("distilled")
    if main.key == "accuracy" and test and student is not None:
        half = 1.96 * math.sqrt(max(student * (1 - student), 0) / test)
        notes.append(f"One run, one seed; {test:,} test examples fix an accuracy like this one to about ±{100 * half:.1f} points (95%).")
    else:
        notes.append("One run with one seed: repeat it over several seeds before drawing conclusions.")
    return notes


def _unfinished(results: Mapping[str, Any]) -> tuple[str, ...]:
    status = results.get("status")
    return () if status in (None, "finished") else (f"The run is not finished (status: {status}); these are its numbers so far.",)


def _test_size(results: Mapping[str, Any]) -> int:
    return int(finite((results.get("data") or {}).get("test")) or 0)
