"""Which figures a report shows, with their captions and legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from .curves import Curve, curves, stage_names
from .numbers import Metric, finite, metric, primary_metric
from .plots import Scale, line_figure, reliability_figure, slug
from .rundir import RunFiles
from .svg import COLOUR
from .table import ordered, summary_table

_HIDDEN = ("lr", "learning_rate")


@dataclass(frozen=True)
class Key:
    """An entry of a legend."""

    label: str
    variable: str
    """CSS variable of its colour."""
    dash: str = "solid"
    shape: str = "line"
    """`line`, `dot`, or the shape of a mark (`circle`, `square`, `diamond`, `ring`), as in the drawing."""


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption."""

    title: str
    svg: Markup
    caption: str = ""
    legend: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Bar:
    """A bar of the cost figures."""

    label: str
    role: str
    text: str
    share: float
    """Length, relative to the longest, in [0, 1]."""


def training_figures(run: RunFiles) -> list[Figure]:
    """The validation metric of every stage in one figure, then the terms of each stage."""
    stages = [stage for stage in run.results.get("stages") or [] if isinstance(stage, dict)]
    names = stage_names(run.log, stages)
    figures = []
    valid = {name: curves(run.log, name, "valid") for name in names}
    main = _monitored(run, valid)
    if main is not None:
        found, roles = [], []
        for name, values in valid.items():
            for key, curve in values.items():
                peer, _, own = key.rpartition("/")
                if own == main.key:
                    found.append(Curve(f"{name}: {peer}" if peer else name, curve.x, curve.y))
                    roles.append("peer" if peer else _stage_role(name, stages))
        figures.append(_overlay("valid", f"Validation {main.noun}", main, found, roles))
    for name in names:
        members: dict[str, dict[str, Curve]] = {}
        for key, curve in curves(run.log, name, "train").items():
            peer, _, own = key.rpartition("/")
            if own not in _HIDDEN:
                members.setdefault(f"{name}: {peer}" if peer else name, {})[own] = curve
        figures += [_terms(member, terms) for member, terms in members.items()]
    return figures


def overlaid_figures(runs: Sequence[RunFiles]) -> list[Figure]:
    """Validation metric and total loss of several runs in one figure each, stage by stage."""
    figures = []
    stages = list(dict.fromkeys(name for run in runs for name in stage_names(run.log, run.results.get("stages") or [])))
    for stage in reversed(stages):  # the student's own stage is the last, and what readers look for
        valid = {run.name: curves(run.log, stage, "valid") for run in runs}
        train = {run.name: curves(run.log, stage, "train") for run in runs}
        main = next((found for run in runs if (found := _monitored(run, {stage: valid[run.name]}))), None)
        wanted: list[tuple[str, str, dict[str, dict[str, Curve]], Scale]] = [("total", f"{stage}: training loss", train, "auto")]
        if main is not None:
            wanted.insert(0, (main.key, f"{stage}: validation {main.noun}", valid, _scale(main)))
        for key, title, found, scale in wanted:
            lines = [(i, Curve(run.name, values.x, values.y)) for i, run in enumerate(runs) if (values := found[run.name].get(key))]
            if lines:
                variables = [f"series-{i % 8}" for i, _ in lines]
                figures.append(_drawn(f"all-{stage}-{key}", title, [curve for _, curve in lines], variables, scale))
    return figures


def reliability_figures(results: Mapping[str, Any]) -> list[Figure]:
    """One reliability diagram for each model that has the bins."""
    models = results.get("models") or {}
    titles = dict(zip((t := summary_table(results)).models, t.titles, strict=True))
    figures = []
    for name, role, model in ordered(models):
        bins = model.get("reliability")
        if not isinstance(bins, dict):
            continue
        error = metric("ece").text((model.get("metrics") or {}).get("ece"))
        text = f"Reliability diagram of {titles[name]}: accuracy over confidence; calibration error {error}."
        svg = reliability_figure(bins, role, f"reliability-{slug(name)}", text)
        if svg is not None:
            figures.append(Figure(titles[name], svg, f"calibration error {error}"))
    return figures


def cost_bars(results: Mapping[str, Any]) -> list[tuple[str, str, tuple[Bar, ...]]]:
    """Title, explanation and bars of every cost that at least two models have."""
    from .table import COSTS

    models = ordered(results.get("models") or {})
    titles = summary_table(results).titles
    found = []
    for key, title, write, help_ in COSTS:
        values = [finite((model.get("cost") or {}).get(key)) for _, _, model in models]
        top = max((value for value in values if value is not None), default=0)
        if sum(value is not None for value in values) < 2 or top <= 0:
            continue
        bars = [Bar(t, role, write(v), v / top) for t, (_, role, _), v in zip(titles, models, values, strict=True) if v is not None]
        found.append((title, help_, tuple(bars)))
    return found


def _monitored(run: RunFiles, valid: Mapping[str, Mapping[str, Curve]]) -> Metric | None:
    keys = [key for values in valid.values() for key in values]
    main = primary_metric(run.models)
    if main is not None and main.key in keys:
        return main
    return primary_metric({"": {"metrics": dict.fromkeys(keys)}})


def _overlay(name: str, title: str, main: Metric, found: list[Curve], roles: list[str]) -> Figure:
    return _drawn(name, title, found, roles, _scale(main))


def _terms(stage: str, terms: Mapping[str, Curve]) -> Figure:
    variables = ["ink" if key == "total" else "" for key in terms]
    free = iter(f"series-{i % 8}" for i in range(len(terms)))
    variables = [variable or next(free) for variable in variables]
    total = terms.get("total")
    # one term that is the total needs no second line under it
    if total is not None and len(terms) == 2 and any(curve.y == total.y for key, curve in terms.items() if key != "total"):
        terms, variables = {key: curve for key, curve in terms.items() if key != "total"}, ["series-0"]
    return _drawn(f"terms-{stage}", f"{stage}: loss terms", list(terms.values()), variables, "auto")


def _drawn(name: str, title: str, found: list[Curve], variables: list[str], scale: Scale) -> Figure:
    dashes = ("solid", "dashed", "dotted", "dashed")
    keys = tuple(Key(c.label, v, dashes[variables[:i].count(v) % 4]) for i, (c, v) in enumerate(zip(found, variables, strict=True)))
    ends = "; ".join(f"{curve.label} from {curve.y[0]:.4g} to {curve.y[-1]:.4g}" for curve in found)
    svg = line_figure(found, slug(name), f"{title} over updates: {ends}.", colours=[COLOUR[v] for v in variables], scale=scale)
    return Figure(title, svg, "", keys)


def _scale(main: Metric | None) -> Scale:
    return "percent" if main is not None and main.style == "percent" else "auto"


def _stage_role(name: str, stages: Sequence[Mapping[str, Any]]) -> str:
    learner = next((str(stage.get("learner")) for stage in stages if stage.get("name") == name), "")
    if "alone" in (name, learner):
        return "alone"
    return "distilled" if learner == "student" or (not learner and name != "teacher") else "teacher"
