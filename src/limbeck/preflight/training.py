"""How stages train: precision, steps, metrics, and whether whoever teaches has learnt something."""

from __future__ import annotations

import re

from ..assemble import ALONE, Phase, build_term, teacher_specs
from ..config.schema import TeacherSpec, TermSpec
from ..engine.backend import check_precision, check_trackers
from ..errors import LimbeckError, UnknownName
from ..models.build import is_local_code
from ..registry import ACTIONS, STEPS
from ..tasks.base import Task
from .found import Desk


def check_training(desk: Desk, phases: list[Phase], task: Task, device: str) -> None:
    """Trackers, precision, steps, actions and metrics of every stage."""
    with desk.at("track"):
        check_trackers(desk.recipe.track)
    _check_answer(desk, task)
    _check_fused(desk, task)
    for phase in phases:
        if phase.learner == ALONE:
            continue
        prefix = f"{phase.key}.train" if phase.key else "train"
        with desk.at(f"{prefix}.precision"):
            check_precision(phase.train.precision, device)
            if phase.train.precision != desk.recipe.train.precision and "fp16" in (phase.train.precision, desk.recipe.train.precision):
                raise LimbeckError("fp16 scales the loss for the whole run; all stages must use it or none.")
        with desk.at(f"{prefix}.step"):
            STEPS.get(phase.train.step, allow_code=desk.allow_code)
        if phase.between is not None:
            with desk.at(f"{phase.key}.between"):
                ACTIONS.get(phase.between, allow_code=desk.allow_code)
        if phase.train.accumulate > phase.train.batch_size:
            text = f"expected at most batch_size ({phase.train.batch_size}), found {phase.train.accumulate}"
            desk.problem(f"{prefix}.accumulate", f"{text}: every forward pass needs an example.")
        monitor = phase.train.monitor
        if monitor is not None and monitor not in task.better:
            known = ", ".join(task.better)
            desk.problem(f"{prefix}.monitor", f"expected a metric of {desk.recipe.task} ({known}), found {monitor!r}.")


def _check_answer(desk: Desk, task: Task) -> None:
    """A pattern of answers is one, and the models write answers."""
    pattern = desk.recipe.evaluate.answer
    if pattern is None:
        return
    if task.language not in ("causal_lm", "seq2seq_lm"):
        desk.problem("evaluate.answer", f"task {desk.recipe.task} writes no answers; this is for causal_lm and seq2seq_lm. Remove it.")
    try:
        re.compile(pattern)
    except re.error as error:
        desk.problem("evaluate.answer", f"expected a regular expression, found {pattern!r}: {error}.")


def _check_fused(desk: Desk, task: Task) -> None:
    """Those that answer together are models of the recipe that predict tokens."""
    names = ["student", *desk.own, *desk.recipe.models]
    for name, spec in desk.recipe.evaluate.fused.items():
        place = f"evaluate.fused.{name}"
        if task.labels != "token":
            desk.problem(place, f"task {desk.recipe.task} predicts no tokens; fusing is for language models. Remove it.")
        if name in (*names, ALONE, "before"):
            desk.problem(place, f"{name!r} is a model of the recipe already; give what is fused another name.")
        if not spec.experts:
            desk.problem(
                f"{place}.experts", "expected a small model with what it was before it learnt, such as {student: small}, found none."
            )
        aim = [("aim", spec.aim)] if spec.aim is not None else []
        experts = [("experts", model) for pair in spec.experts.items() for model in pair]
        for key, model in [("large", spec.large), *experts, *aim]:
            if model not in names:
                desk.problem(f"{place}.{key}", str(UnknownName("model of this recipe", model, names)))


def check_knowledge(desk: Desk, phases: list[Phase]) -> None:
    """A teacher with random weights that no stage trains is a mistake, unless the recipe says so."""
    trained: set[str] = set()
    for phase in phases:
        for term in phase.objective.values():
            name = term.from_
            own = phase.teacher is not None and name == "teacher"
            spec = phase.teacher if own else teacher_specs(desk.recipe).get(name)
            own_model = (own or name in desk.own) and name not in phase.peers
            if isinstance(spec, TeacherSpec) and own_model and _knows_nothing(spec) and not (name in trained and not own):
                key = f"{phase.key}.teacher" if own else ("teacher" if name == "teacher" else f"teachers.{name}")
                text = (
                    f"{spec.model} has no weights and no earlier stage trains it, so it has nothing to teach. "
                    f"Give `weights`, add a stage with `learner: {name}`, or write `weights: random` if that is what you want."
                )
                problem = desk.loaded.problem(key, text)
                if problem not in desk.found.problems and _uses_teacher(term, desk.allow_code):
                    desk.found.problems.append(problem)
        trained.update(phase.members)


def _uses_teacher(term: TermSpec, allow_code: bool) -> bool:
    try:
        return build_term("term", term, allow_code=allow_code).loss.needs.teacher
    except LimbeckError:
        return False


def _knows_nothing(spec: TeacherSpec) -> bool:
    return spec.weights is None and not is_local_code(spec.model)


def line(phase: Phase) -> str:
    """What a stage trains, for the plan."""
    train = phase.train
    length = f"{train.steps} updates" if train.steps else f"{train.epochs} epochs"
    terms = ", ".join(f"{label} ({term.loss})" for label, term in phase.objective.items())
    rounds = f", {phase.repeat} rounds" if phase.repeat > 1 else ""
    peers = f" with {' and '.join(phase.peers)}" if phase.peers else ""
    return f"stage {phase.name}: trains {phase.learner}{peers} for {length}{rounds} on {terms}"
