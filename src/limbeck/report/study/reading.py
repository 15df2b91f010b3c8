"""Reads the folder of a study. What it lacks is empty here and listed in `Study.missing`, so that the page can say so.

The format of `results.json` is described in docs/studies.md. An unfinished study has none yet: its values are then gathered from those
runs that are finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from ...errors import RunError
from ...measured import PARTS, measured, table
from ..lenient import listing, mapping, mean
from ..numbers import Metric, finite, metric, primary_metric
from ..rundir import RunFiles, json_object, read_run

Values = Mapping[str, Mapping[str, tuple[float | None, ...]]]
"""Model, metric, then one value a seed; None where a run is missing or its value is no number."""


@dataclass(frozen=True)
class Arm:
    """An arm of a study, with its value for every seed."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What it sets in the recipe."""
    values: Values = field(default_factory=dict)
    """On the test split, with the weights that the validation split chose."""
    valid: Values = field(default_factory=dict)
    last: Values = field(default_factory=dict)
    """On the test split, with the weights of the last epoch, where these are others."""
    folders: tuple[Path | None, ...] = ()
    """One run directory a seed; None where it is missing."""


@dataclass(frozen=True)
class Study:
    """What a page shows of a study."""

    path: Path
    """Its folder, or the file of its results where there is no folder."""
    results: Mapping[str, Any]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    primary: Metric | None
    baseline: str
    """The arm with which others are compared."""
    missing: tuple[str, ...] = ()
    recipe: str = ""
    finished: bool = True

    @property
    def title(self) -> str:
        """The title of its recipe, else the name of its folder."""
        return str(mapping(self.results.get("about")).get("title") or "") or str(self.results.get("slug") or "") or self.path.stem

    @property
    def claims(self) -> list[dict[str, Any]]:
        """The claims that were decided."""
        return [claim for claim in listing(self.results.get("claims")) if isinstance(claim, dict)]

    @property
    def ranking(self) -> dict[str, Any]:
        """The ranking of the arms; empty where there is none."""
        return mapping(self.results.get("ranking"))

    @property
    def order(self) -> list[Arm]:
        """The arms, the best first: as ranked, else by their mean; arms without a value come last."""
        known = {arm.name: arm for arm in self.arms}
        names = listing(self.ranking.get("order")) if self.ranking.get("mean_rank") else []
        ranked = [known.pop(str(name)) for name in names if str(name) in known]
        rest = list(known.values())
        main = self.primary
        if main is not None:
            sign = 1 if main.better == "lower" else -1
            means = {arm.name: mean(of(arm.values, "student", main.key)) for arm in rest}
            rest.sort(key=lambda arm: (means[arm.name] is None, sign * (means[arm.name] or 0.0)))
        return [*ranked, *rest]

    def arm(self, name: str) -> Arm | None:
        """The arm of that name, if there is one."""
        return next((arm for arm in self.arms if arm.name == name), None)


def of(values: Values, model: str, key: str) -> tuple[float | None, ...]:
    """The values of a metric over the seeds; empty where it is not known."""
    return values.get(model, {}).get(key, ())


def is_study(path: Path) -> bool:
    """Whether `path` is the folder of a study, finished or not, or the file of a study's results."""
    try:
        if path.is_file():
            return json_object(path).get("kind") == "study"
        return any((path / name).is_file() and json_object(path / name).get("kind") == "study" for name in ("results.json", "study.json"))
    except RunError:
        return (path / "study.json").is_file()  # damaged; reading it says how


def read_study(path: Path) -> Study:
    """The study in the folder `path`, or in a file of results such as those below `evidence/`.

    Raises:
        RunError: where there is no study, or its files cannot be read.
    """
    if path.is_file():
        return _finished(path, json_object(path), None)
    if not path.is_dir():
        raise RunError(f"{path} does not exist. Expected the folder of a study, as `limbeck study` makes them.")
    results, plan = path / "results.json", path / "study.json"
    if results.is_file():
        return _finished(path, json_object(results), path)
    if plan.is_file():
        return _unfinished(path, json_object(plan))
    raise RunError(f"{path} holds neither results.json nor study.json: this is no study. Make one: limbeck study RECIPE --out {path}")


def _finished(path: Path, results: dict[str, Any], folder: Path | None) -> Study:
    if results.get("kind") != "study":
        raise RunError(
            f"{path} holds no results of a study (kind: {results.get('kind')!r}). Compare runs with: limbeck compare RUN RUN ..."
        )
    seeds = _seeds(results)
    arms = []
    for name, raw in mapping(results.get("arms")).items():
        found = mapping(raw)
        tables = {key: _values(found.get(key), len(seeds)) for key in PARTS}
        arms.append(Arm(str(name), mapping(found.get("set")), folders=_folders(folder, found.get("runs"), len(seeds)), **tables))
    key = results.get("primary")
    main = metric(str(key)) if key else _primary(arms)
    better = results.get("better")
    if main is not None and better in ("higher", "lower"):
        main = replace(main, better=cast(Literal["higher", "lower"], better))
    gaps = _gaps(results, arms, seeds, main, folder is not None)
    return Study(path, results, tuple(arms), seeds, main, _baseline(results, arms), tuple(gaps), _recipe(folder))


def _unfinished(path: Path, plan: dict[str, Any]) -> Study:
    seeds = _seeds(plan)
    arms, first = [], {}
    done = total = 0
    for name, raw in mapping(plan.get("arms")).items():
        names = [f"runs/{name}/seed-{seed}" for seed in seeds]
        folders = _folders(path, names, len(seeds))
        runs = [None if folder is None else run_results(folder) for folder in folders]
        done, total = done + sum(run is not None for run in runs), total + len(runs)
        first = first or next((run for run in runs if run), {})
        kept = tuple(folder if run else None for folder, run in zip(folders, runs, strict=True))
        arms.append(Arm(str(name), mapping(mapping(raw).get("set")), folders=kept, **gathered(runs)))
    notes = [
        f"The study is not finished: {done} of {total} runs are. The numbers are those so far; claims and ranks come with the last run."
    ]
    results = {**plan, "about": mapping(first.get("about")), "task": first.get("task"), "environment": {}}
    return Study(path, results, tuple(arms), seeds, _primary(arms), _baseline(plan, arms), tuple(notes), _recipe(path), finished=False)


def run_results(folder: Path) -> dict[str, Any] | None:
    """The results of a run; None where it has none that can be read."""
    try:
        return dict(json_object(folder / "results.json"))
    except RunError:
        return None


def run_files(folder: Path, name: str) -> RunFiles | None:
    """The files of a run with its log; None where they cannot be read."""
    try:
        return read_run(folder, name)
    except RunError:
        return None


def gathered(runs: Sequence[Mapping[str, Any] | None]) -> dict[str, Values]:
    """The values of a list of runs, from their results: part, model, metric, then one a run."""
    found = table([None if run is None else measured(run) for run in runs])
    return {part: _values(own, len(runs)) for part, own in found.items()}


def _seeds(results: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(seed for seed in listing(results.get("seeds")) if isinstance(seed, int))


def _values(raw: Any, count: int) -> Values:
    found: dict[str, dict[str, tuple[float | None, ...]]] = {}
    for model, metrics in mapping(raw).items():
        own = {str(key): tuple(map(finite, listing(values)))[:count] for key, values in mapping(metrics).items()}
        found[str(model)] = {key: (*values, *[None] * (count - len(values))) for key, values in own.items()}
    return found


def _folders(folder: Path | None, names: Any, count: int) -> tuple[Path | None, ...]:
    """The run directories that are there; a path that leads out of the study's folder is not followed."""
    found: list[Path | None] = []
    for name in listing(names)[:count]:
        path = None if folder is None or not isinstance(name, str) else (folder / name)
        inside = path is not None and folder is not None and path.resolve().is_relative_to(folder.resolve())
        found.append(path if inside and path is not None and path.is_dir() else None)
    return (*found, *[None] * (count - len(found)))


def primary_of(run: RunFiles) -> Metric | None:
    """The metric of the headline of a run."""
    return primary_metric(run.models)


def _primary(arms: Sequence[Arm]) -> Metric | None:
    return primary_metric({f"{arm.name} {model}": {"metrics": metrics} for arm in arms for model, metrics in arm.values.items()})


def _baseline(results: Mapping[str, Any], arms: Sequence[Arm]) -> str:
    wanted = results.get("baseline") or mapping(results.get("ranking")).get("baseline")
    names = [arm.name for arm in arms]
    return str(wanted) if wanted in names else names[0] if names else ""


def _gaps(results: Mapping[str, Any], arms: Sequence[Arm], seeds: Sequence[int], main: Metric | None, folder: bool) -> list[str]:
    if not arms:
        return ["The study has no arms."]
    notes = []
    if not seeds:
        notes.append("The study names no seeds, so that it has no values.")
    failed = mapping(results.get("failed"))
    notes += [f"Failed: {title} ({reason})." for title, reason in list(failed.items())[:8]]
    empty = [
        f"{arm.name} (seed {seed})"
        for arm in arms
        for seed, value in zip(seeds, of(arm.values, "student", main.key) if main else (), strict=False)
        if value is None
    ]
    if empty:
        notes.append(f"Without a value: {', '.join(empty[:8])}{f' and {len(empty) - 8} more' if len(empty) > 8 else ''}.")
    gone = sum(path is None for arm in arms for path in arm.folders)
    if folder and gone:
        notes.append(f"{gone} of {len(arms) * len(seeds)} run directories are missing; what only they hold is left out.")
    return notes


def _recipe(folder: Path | None) -> str:
    file = folder / "recipe.yaml" if folder is not None else None
    return file.read_text(encoding="utf-8", errors="replace") if file is not None and file.is_file() else ""
