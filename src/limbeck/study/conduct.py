"""A study from its recipe to its results: `limbeck.study` and `limbeck study`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..config.load import LoadedRecipe, load_recipe
from ..config.study_schema import StudySpec
from ..environment import environment
from ..errors import CodeNotAllowed, Interrupted, LimbeckError, RecipeError, UnknownName
from ..evidence import slug
from ..files import read_json, write_json
from ..measured import measured, table
from ..run import recipe_file
from ..store.manage import parse_codec
from ..version import __version__
from . import folder as folders
from .arms import Arm, Arms, arms_of, seeds_of
from .execute import Quiet, Teller, execute
from .judging import better, claim_problems, claims_of, judge, task_of
from .runs import How, Job, jobs_of


@dataclass(frozen=True)
class Wish:
    """What is asked for besides the recipe."""

    set: Mapping[str, Any] | Sequence[str] = ()
    """Overrides by dotted key, for all arms."""
    seeds: int | None = None
    """How many seeds; those of the recipe if None."""
    workers: int = 1
    """How many runs at once."""
    out: Path | None = None
    """The study's folder; `studies/NAME` if None."""
    resume: bool = False
    """Go on with a study that was begun."""
    device: str | None = None
    allow_code: bool = True
    report: bool = True
    """Whether the study and every run of it write their reports."""
    shared: Path | None = None
    """Where stages that runs have in common are kept, also by several studies; in the study's folder if None."""


@dataclass(frozen=True)
class Study:
    """A study that was run."""

    folder: Path
    """Its folder."""
    results: Mapping[str, Any]
    """The contents of its results.json."""

    @property
    def report(self) -> Path:
        """The report to look at."""
        return self.folder / "report.html"

    @property
    def claims(self) -> dict[str, str]:
        """Each claim with `holds`, `fails` or `undecided`."""
        return {claim["text"]: claim["verdict"] for claim in self.results["claims"]}


@dataclass(frozen=True)
class Plan:
    """A study before its first run."""

    loaded: LoadedRecipe
    spec: StudySpec
    arms: Arms
    seeds: list[int]
    claims: list[str]


def plan(loaded: LoadedRecipe, wish: Wish) -> Plan:
    """The arms, seeds and claims of a recipe.

    Raises:
        RecipeError: all problems of all arms and claims at once.
    """
    spec = loaded.recipe.study or StudySpec()
    spec = spec if wish.seeds is None else spec.model_copy(update={"seeds": wish.seeds})
    arms = arms_of(loaded, wish.set, device=wish.device)
    task = task_of(loaded)
    problems = [*arms.problems]
    if problems:
        problems += claim_problems(loaded, None, task)
    else:
        problems += claim_problems(loaded, arms.found, task)
        names = [arm.name for arm in arms.found]
        if spec.baseline is not None and spec.baseline not in names:
            problems.append(loaded.problem("study.baseline", str(UnknownName("arm", spec.baseline, names))))
        if spec.label is not None:
            try:
                parse_codec(spec.label if "=" in spec.label.partition(":")[0] else f"logits={spec.label}")
            except LimbeckError as error:
                problems.append(loaded.problem("study.label", str(error)))
    if problems:
        raise RecipeError(problems)
    return Plan(loaded, spec, arms, seeds_of(spec), claims_of(spec, arms.found, task))


def study(recipe: str | Path | Mapping[str, Any], wish: Wish | None = None, teller: Teller | None = None) -> Study:
    """Runs the arms of a recipe's `study` over the seeds and decides its claims.

    Args:
        recipe: a recipe file, the folder of a study to go on with, or the recipe itself as a mapping.
        wish: what else is asked for.
        teller: who is told how it goes.

    Returns:
        The study; where runs failed, their values are missing and `failed` of its results says why.

    Raises:
        RecipeError: all problems of the recipe, its arms and its claims at once.
        LimbeckError: anything else that the user can mend.
        Interrupted: after Ctrl-C; what was finished is kept.
    """
    wish, teller = wish or Wish(), teller or Quiet()
    wish, source = _going_on(recipe, wish)
    loaded = load_recipe(source, set=wish.set, allow_code=wish.allow_code)
    if loaded.code and not wish.allow_code:
        raise CodeNotAllowed(loaded.code[0])
    if wish.workers < 1 or (wish.seeds is not None and wish.seeds < 1):
        raise LimbeckError(f"--workers and --seeds must be at least 1, found {wish.workers} and {wish.seeds}.")
    planned = plan(loaded, wish)
    for note in planned.arms.notes:
        teller.message(note)
    folder = folders.place(loaded, wish.out, resume=wish.resume)
    name = str(recipe) if not isinstance(recipe, Mapping) else ""
    record = _record(planned, name if not folders.is_study(Path(name)) else read_json(folder / folders.FILE)["recipe"])
    folders.begin(folder, loaded, planned.arms.found, record)
    how = How(wish.workers, wish.device, wish.allow_code, wish.report, wish.shared)
    jobs = jobs_of(folder, planned.spec, planned.arms.found, planned.seeds, how)
    try:
        failed = execute(jobs, how, teller)
    except Interrupted as stop:
        raise Interrupted(
            f"{str(stop).partition(' Go on with')[0]} Go on with: limbeck study {shlex.quote(str(folder))} --resume"
        ) from None
    return _finish(folder, planned, jobs, record, failed, how)


def _going_on(recipe: str | Path | Mapping[str, Any], wish: Wish) -> tuple[Wish, str | Path | Mapping[str, Any]]:
    """Where the folder of a study is given, its recipe, and the folder as the place."""
    if isinstance(recipe, Mapping) or not folders.is_study(Path(recipe)):
        return wish, recipe_file(recipe)
    if not wish.resume:
        raise LimbeckError(f"{recipe}: is the folder of a study. Add --resume to go on with it.")
    return replace(wish, out=wish.out or Path(recipe)), Path(recipe) / "recipe.yaml"


def _record(planned: Plan, source: str) -> dict[str, Any]:
    return {
        "recipe": source,
        "status": "running",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "arms": {arm.name: {"set": arm.changes} for arm in planned.arms.found},
        "seeds": planned.seeds,
        "claims": planned.claims,
    }


def _finish(folder: Path, planned: Plan, jobs: Sequence[Job], record: Mapping[str, Any], failed: Mapping[str, str], how: How) -> Study:
    """Collects what the runs found, decides the claims, and writes it down; the study counts as finished only then."""
    from ..report.study.page import write_study_report

    results = collect(folder, planned, jobs, failed) | {"threads": how.threads}
    results["seconds"] = round(results["seconds"], 1)
    results["claims"], results["ranking"] = (judge(results, planned.claims, planned.spec)[key] for key in ("claims", "ranking"))
    write_json(folder / "results.json", results)
    write_json(folder / folders.FILE, {"format": 1, "kind": "study", **record, "status": "incomplete" if failed else "finished"})
    if how.report:  # it says whether the study is finished
        write_study_report(folder, folder / "report.html")
    return Study(folder, read_json(folder / "results.json"))


def collect(folder: Path, planned: Plan, jobs: Sequence[Job], failed: Mapping[str, str]) -> dict[str, Any]:
    """The contents of results.json without what is decided from it."""
    loaded, task = planned.loaded, task_of(planned.loaded)
    runs = {(job.arm, job.seed): job for job in jobs if job.label is None}
    seconds = 0.0
    arms: dict[str, Any] = {}
    for arm in planned.arms.found:
        own = [_results(runs[arm.name, seed]) for seed in planned.seeds]
        seconds += sum(found["seconds"] for found in own if found is not None)
        arms[arm.name] = {
            "set": dict(arm.changes),
            "runs": [runs[arm.name, seed].folder.relative_to(folder).as_posix() for seed in planned.seeds],
            **table([measured(found) if found is not None else None for found in own]),
        }
    return {
        "format": 1,
        "kind": "study",
        "limbeck": __version__,
        "slug": slug(loaded.path),
        "recipe": str(loaded.path or ""),
        "about": loaded.recipe.about.model_dump(),
        "task": loaded.recipe.task,
        "primary": task.monitor,
        "better": better(task),
        "seeds": planned.seeds,
        "arms": arms,
        "failed": dict(failed),
        "environment": environment(),
        "seconds": seconds,
    }


def _results(job: Job) -> dict[str, Any] | None:
    """What a finished run found; None of one that failed."""
    return read_json(job.folder / "results.json") if job.finished else None


__all__ = ["Arm", "Plan", "Study", "Teller", "Wish", "plan", "study"]
