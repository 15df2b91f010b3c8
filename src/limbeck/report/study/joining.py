"""Several studies and runs as one study, whose arms are those of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import RunError
from ..lenient import mapping
from ..numbers import finite
from ..recipes import differences
from ..rundir import RunFiles, names, read_runs
from .reading import Arm, Study, Values, gathered, is_study, of, primary_of, read_study

_NO_ARM = ("seed", "data.split.seed")
"""Keys that may differ between the runs of one arm."""


def read_all(paths: Sequence[Path]) -> Study:
    """What lies at `paths`, studies and runs, as one study. A single study is returned as it is.

    Runs whose recipes differ in nothing but the seed become one arm.

    Raises:
        RunError: where a path is neither, where there is nothing to compare, or where tasks or metrics differ.
    """
    studies = [(path, read_study(path)) for path in paths if is_study(path)]
    others = [path for path in paths if not is_study(path)]
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise RunError(f"the same folder was given twice: {', '.join(map(str, paths))}.")
    if len(studies) == 1 and not others:
        return studies[0][1]
    runs = read_runs(others) if others else []
    if not studies and len(runs) < 2:
        raise RunError("one run has nothing to be compared with: name at least two runs, or a study. Its page: limbeck report RUN")
    short = dict(zip((path for path, _ in studies), names([path.resolve() for path, _ in studies]) if studies else [], strict=True))
    parts = [(short[path], study) for path, study in studies] + ([("", of_runs(runs))] if runs else [])
    _same("tasks", {name or "the runs": str(study.results.get("task") or "") for name, study in parts})
    if len(parts) == 1:
        return parts[0][1]
    _same("metrics", {name or "the runs": study.primary.key if study.primary else "" for name, study in parts})
    return _joined(parts)


def of_runs(runs: Sequence[RunFiles]) -> Study:
    """Runs as a study: those whose recipes differ in nothing but the seed are one arm.

    Raises:
        RunError: where their tasks or metrics differ.
    """
    _same("tasks", {run.name: str(run.results.get("task") or "") for run in runs})
    mains = {run.name: primary_of(run) for run in runs}
    _same("metrics", {name: main.key if main else "" for name, main in mains.items()})
    groups = _groups(runs)
    seeds = tuple(sorted({_seed(run) for run in runs}))
    arms = []
    for label, members in groups.items():
        by_seed = {_seed(run): run for run in members}
        own = [by_seed.get(seed) for seed in seeds]
        changes = {} if len(groups) == 1 else {"runs": ", ".join(run.name for run in members)}
        folders = tuple(None if run is None else run.path for run in own)
        arms.append(Arm(label, changes, folders=folders, **gathered([None if run is None else run.results for run in own])))
    titles = {run.title for run in runs}
    title = f"{titles.pop()}: {len(runs)} runs" if len(titles) == 1 else f"Comparison of {len(runs)} runs"
    results = {"about": {"title": title}, "task": runs[0].results.get("task"), "limbeck": runs[0].results.get("limbeck")}
    main = next(iter(mains.values()))
    return Study(Path("comparison"), results, tuple(arms), seeds, main, arms[0].name, tuple(_data(runs)))


def _joined(parts: Sequence[tuple[str, Study]]) -> Study:
    seeds = tuple(sorted({seed for _, study in parts for seed in study.seeds}))
    arms, claims, missing = [], [], []
    for name, study in parts:
        places = [study.seeds.index(seed) if seed in study.seeds else -1 for seed in seeds]
        head = f"{name}: " if name else ""
        for arm in study.arms:
            folders = tuple(arm.folders[i] if 0 <= i < len(arm.folders) else None for i in places)
            values, valid, last = (_aligned(found, places) for found in (arm.values, arm.valid, arm.last))
            arms.append(Arm(f"{head}{arm.name}", arm.changes, values, valid, last, folders))
        claims += [{**claim, "text": f"{head}{claim.get('text')}"} for claim in study.claims]
        missing += [f"{head}{note}" for note in study.missing]
    first = parts[0][1]
    results = {
        "about": {"title": f"Comparison of {', '.join(name or 'runs' for name, _ in parts)}"},
        "task": first.results.get("task"),
        "claims": claims,
        "limbeck": first.results.get("limbeck"),
        "commands": {name: str(study.results["recipe"]) for name, study in parts if study.results.get("recipe")},
    }
    baseline = f"{parts[0][0]}: {first.baseline}" if parts[0][0] else first.baseline
    return Study(Path("comparison"), results, tuple(arms), seeds, first.primary, baseline, tuple(missing))


def values_of(study: Study, key: str) -> dict[str, tuple[float | None, ...]]:
    """A metric of every arm's student, one value a seed; arms without it are left out."""
    found = {arm.name: of(arm.values, "student", key) for arm in study.arms}
    return {name: values for name, values in found.items() if len(values) == len(study.seeds)}


def ranked(study: Study, ranking: Mapping[str, Any]) -> Study:
    """The study with a ranking that was made of its values."""
    return replace(study, results={**study.results, "ranking": dict(ranking)})


def _aligned(values: Values, places: Sequence[int]) -> Values:
    """The values at these places; None where a place is -1, which stands for a seed that the study has not got."""
    return {
        model: {key: tuple(own[i] if 0 <= i < len(own) else None for i in places) for key, own in found.items()}
        for model, found in values.items()
    }


def _groups(runs: Sequence[RunFiles]) -> dict[str, list[RunFiles]]:
    """Runs of one recipe and different seeds under a label; every run on its own where recipes are missing."""
    if any(not run.recipe for run in runs):
        return {run.name: [run] for run in runs}
    rows = [row for row in differences([run.recipe for run in runs]) if row[0] not in _NO_ARM and not row[0].startswith("about.")]
    found: dict[tuple[str, ...], list[RunFiles]] = {}
    for i, run in enumerate(runs):
        found.setdefault(tuple(values[i] for _, values in rows), []).append(run)
    if any(len({_seed(run) for run in members}) < len(members) for members in found.values()):
        return {run.name: [run] for run in runs}  # a seed that was run twice is no second seed
    groups: dict[str, list[RunFiles]] = {}
    for key, members in found.items():
        label = ", ".join(f"{row[0].rpartition('.')[2]}={value or 'absent'}" for row, value in zip(rows, key, strict=True))
        groups[members[0].name if len(members) == 1 or not label or len(label) > 60 else label] = members
    return groups


def _seed(run: RunFiles) -> int:
    return int(finite(run.results.get("seed")) or 0)


def _same(what: str, found: Mapping[str, str]) -> None:
    known = {name: value for name, value in found.items() if value}
    if len(set(known.values())) > 1:
        told = "; ".join(f"{name}: {value}" for name, value in list(known.items())[:6])
        raise RunError(f"{what} differ, so that there is nothing to compare ({told}). Name runs or studies of one task and metric.")


def _data(runs: Sequence[RunFiles]) -> list[str]:
    found = {str(mapping(run.results.get("data")).get("source") or "") for run in runs} - {""}
    if len(found) < 2:
        return []
    return [f"The runs are of different data ({', '.join(sorted(found))}): their numbers compare data as well as methods."]
