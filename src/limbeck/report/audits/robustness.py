"""How models do on corrupted inputs: the more so the stronger the corruption, and by its kind."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ..figures import Figure
from ..lenient import listing, mapping
from ..numbers import Metric, metric
from ..spread import spread
from .lines import Axes, Line, drawn, keys
from .parts import Chart, Numbers, Section, legend, marks
from .subjects import Subject, numbers

CLEAN, ALL = "as they are", "all of them"


def robustness(subjects: Sequence[Subject]) -> Section | None:
    """Lines over the severity, marks for each kind, and the numbers of both; None where nothing was corrupted."""
    able = [subject for subject in subjects if _rows(subject)]
    if not able:
        return None
    first = able[0].section("robustness")[0]
    known = metric(str(first.get("metric")))
    severities = numbers(listing(first.get("severities")))
    names = list(dict.fromkeys(name for subject in able for row in _rows(subject) for name in row))
    kinds = {name: [_of_kind(subject, name) for subject in able] for name in names}
    rows, ticks = marks({name: [fmean(own) if own else None for own in found] for name, found in kinds.items()}, able, known)
    chart = Chart("Robustness by kind", ("Corruption",), rows, ticks, f"{known.title}, mean over the severities", legend(able))
    table = {CLEAN: [subject.metric(known.key) for subject in able], **kinds}
    table[ALL] = [numbers(section.get("mean") for section in subject.section("robustness")) for subject in able]
    listed = tuple((name, tuple(spread(own, known) for own in found)) for name, found in table.items())
    caption = f"{known.title} on the test inputs as they are, and corrupted: mean over severities {_listed(severities)}."
    return Section(
        "robustness",
        "Robustness",
        f"{known.title} on the test inputs after they were corrupted, the same way for all models.",
        (_figure(able, known, severities),) if severities else (),
        (chart,),
        (Numbers(caption, ("Inputs", *(subject.label for subject in able)), listed),),
    )


def _rows(subject: Subject) -> list[dict[str, list[float]]]:
    """Kind, then a value a severity, of every run."""
    found = [mapping(section.get("kinds")) for section in subject.section("robustness")]
    return [{str(name): numbers(listing(values)) for name, values in kinds.items()} for kinds in found if kinds]


def _of_kind(subject: Subject, name: str) -> list[float]:
    return [fmean(row[name]) for row in _rows(subject) if row.get(name)]


def _line(subject: Subject, known: Metric, severities: Sequence[float]) -> Line:
    """At severity 0 (as they are) and at each other one the value of every run, a mean over the kinds."""
    columns = {0.0: subject.metric(known.key)}
    for i, severity in enumerate(severities):
        columns[severity] = [fmean(values) for row in _rows(subject) if (values := [own[i] for own in row.values() if i < len(own)])]
    there = {place: tuple(own) for place, own in columns.items() if own}
    return Line(subject, tuple(there), tuple(there.values()))


def _figure(subjects: Sequence[Subject], known: Metric, severities: Sequence[float]) -> Figure:
    lines = [line for subject in subjects if len((line := _line(subject, known, severities)).x) > 1]
    ends = [f"{line.subject.label} from {known.text(line.middle[0])} to {known.text(line.middle[-1])}" for line in lines]
    axes = Axes("severity", known.style == "percent", {0.0: "none", **{severity: f"{severity:g}" for severity in severities}})
    svg = drawn(lines, axes, "robustness", f"{known.title} over the severity of corruptions: {'; '.join(ends)}.")
    band = "; bands reach from the lowest to the highest seed" if any(len(subject.runs) > 1 for subject in subjects) else ""
    return Figure(f"{known.title} by severity", svg, f"mean over the kinds of corruption{band}", keys(lines))


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
