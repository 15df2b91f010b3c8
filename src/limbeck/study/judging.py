"""The claims of a study: which there are, whether they name what is measured, what the seeds say, and how the arms rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .. import assemble
from ..appraisal import asked
from ..config.load import LoadedRecipe
from ..config.study_schema import StudySpec
from ..errors import LimbeckError, Problem, UnknownName, did_you_mean
from ..measured import RENAMED
from ..tasks.base import Task
from .arms import Arm
from .claims import Claim, ClaimError, Name, parse
from .decide import decide
from .multiple import rank
from .values import STUDENT, StudyValues, readings

COSTS = ("parameters", "flops", "bytes", "latency_ms", "seconds", "step_time", "recovered")
"""What is measured of every model besides the metrics of the task."""
_SECTIONS = ("agreement", "flips", "before", "valid", "last")


def task_of(loaded: LoadedRecipe) -> Task:
    """The task of a recipe."""
    return assemble.build_task(assemble.located(loaded), allow_code=loaded.allow_code)


def better(task: Task) -> str:
    """Whether `higher` or `lower` is better of the task's own metric."""
    return "higher" if task.better.get(task.monitor, True) else "lower"


def claims_of(spec: StudySpec, arms: Sequence[Arm], task: Task) -> list[str]:
    """The claims of a study; that the student is better than alone, where the recipe trains it alone and says nothing."""
    if spec.claims or len(arms) != 1 or not arms[0].loaded.recipe.baseline:
        return list(spec.claims)
    sign = ">" if better(task) == "higher" else "<"
    return [f"{arms[0].name}.{task.monitor} {sign} alone.{task.monitor}"]


def claim_problems(loaded: LoadedRecipe, arms: Sequence[Arm] | None, task: Task) -> list[Problem]:
    """Everything that is wrong with the claims, each at its place; without arms (None), how they are written."""
    problems: list[Problem] = []
    for position, text in enumerate(loaded.recipe.study.claims if loaded.recipe.study is not None else ()):
        try:
            claim = parse(text)
        except ClaimError as error:
            problems.append(_problem(loaded, position, error))
            continue
        problems += [_problem(loaded, position, error) for error in _unknown(loaded, claim, arms, task)] if arms is not None else []
    return problems


def _unknown(loaded: LoadedRecipe, claim: Claim, arms: Sequence[Arm], task: Task) -> list[ClaimError]:
    """The names of a claim that stand for nothing."""
    found: list[ClaimError] = []
    for name in claim.names():
        if message := _fault(loaded, name, arms, task):
            found.append(claim.error(name, message))
    return found


def _fault(loaded: LoadedRecipe, name: Name, arms: Sequence[Arm], task: Task) -> str:
    by_name = {arm.name: arm for arm in arms}
    try:
        meant = readings(name if name.arm != "*" else Name(arms[0].name, name.model, name.metric), by_name)
    except UnknownName as error:
        return str(error)
    data = loaded.recipe.data
    several = bool(data.datasets) or data.domain is not None or task.named_by_data  # metrics that depend on the data
    metrics = [*task.better, *(key for arm in arms for key in asked(arm.loaded.recipe, task)), *COSTS]
    for arm, model, metric in meant:
        models = _models(by_name[arm])
        if model in models and (_known(metric, metrics) or several):
            return ""
    arm, model, metric = meant[0]
    if metric in RENAMED:
        return f"{metric} is called {RENAMED[metric]}."
    models = _models(by_name[arm])
    if name.arm not in by_name and name.arm != "*" and model not in models:
        return str(UnknownName("arm or model of this study", name.arm, [*by_name, *models]))
    early = model == "before"  # a section of the student's, and no model
    if model not in models and not early:
        return f"no metric or model of the arm {arm!r} is called {model!r}.{did_you_mean(model, [*models, *metrics], count=1)}"
    options = [f"before.metrics.{key}" for key in metrics] if early else [*metrics, "agreement.top1"]
    hint = (
        did_you_mean(f"before.metrics.{metric}" if early else metric, options, count=1) or f" Known: {', '.join(options)}, agreement.NAME."
    )
    return f"no metric of this task is called {f'before.{metric}' if early else metric!r}.{hint}"


def _known(metric: str, metrics: Sequence[str]) -> bool:
    head, _, rest = metric.partition(".")
    if head == "before":
        part, _, own = rest.partition(".")
        return (part == "metrics" and own in metrics) or (part == "agreement" and bool(own))
    return metric in metrics or (head in _SECTIONS and bool(rest) and (head in ("agreement", "flips") or _known(rest, metrics)))


def _models(arm: Arm) -> list[str]:
    recipe = arm.loaded.recipe
    teachers = ["teacher"] if recipe.teacher is not None else []
    return [STUDENT, *(["alone"] if recipe.baseline else []), *teachers, *recipe.teachers, *recipe.models, *recipe.evaluate.fused]


def _problem(loaded: LoadedRecipe, position: int, error: ClaimError) -> Problem:
    path = ("study", "claims", position)
    return Problem(loaded.locate(path).where, f"study.claims[{position}]", f"column {error.column + 1}: {error.message}", error.excerpt)


def judge(results: Mapping[str, Any], texts: Sequence[str], spec: StudySpec) -> dict[str, Any]:
    """`claims` and `ranking` of results.json, from its values."""
    values = StudyValues(results)
    verdicts = decide([parse(text) for text in texts], values, confidence=spec.confidence, correction=spec.correction)
    return {"claims": [asdict(verdict) for verdict in verdicts], "ranking": _ranking(results, values, spec)}


def _ranking(results: Mapping[str, Any], values: StudyValues, spec: StudySpec) -> dict[str, Any] | None:
    """How the arms rank by the task's metric; None with one arm."""
    arms = values.arms()
    if len(arms) < 2:
        return None
    columns = {arm: values.get(Name(arm, None, results["primary"])) for arm in arms}
    baseline = spec.baseline or arms[0]
    if baseline not in arms:
        raise LimbeckError(f"study.baseline: {UnknownName('arm', baseline, arms)}")
    return asdict(rank(results["primary"], columns, better=results["better"], confidence=spec.confidence, baseline=baseline))
