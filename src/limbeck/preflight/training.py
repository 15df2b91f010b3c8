"""How stages train: precision, steps, metrics, and whether whoever teaches has learnt something."""

from __future__ import annotations

from ..assemble import ALONE, STORED, Phase, build_term, teacher_specs
from ..config.model_schema import TeacherSpec
from ..config.term_schema import TermSpec
from ..engine.backend import check_precision, check_trackers
from ..errors import LimbeckError
from ..models.build import is_local_code
from ..registry import ACTIONS, STEPS
from ..tasks.base import Task
from .found import Desk


def check_training(desk: Desk, phases: list[Phase], task: Task, device: str) -> None:
    """Trackers, precision, steps, actions and metrics of every stage."""
    with desk.at("track"):
        check_trackers(desk.recipe.track)
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
        _check_mixture(desk, phase, prefix)
        if phase.train.accumulate > phase.train.batch_size:
            text = f"expected at most batch_size ({phase.train.batch_size}), found {phase.train.accumulate}"
            desk.problem(f"{prefix}.accumulate", f"{text}: every forward pass needs an example.")
        monitor = phase.train.monitor
        if monitor is not None and monitor not in task.better:
            known = ", ".join(task.better)
            desk.problem(f"{prefix}.monitor", f"expected a metric of {desk.recipe.task} ({known}), found {monitor!r}.")


def _check_mixture(desk: Desk, phase: Phase, prefix: str) -> None:
    """Domains are named, and whoever the student is compared with is a teacher of the stage that speaks of any text."""
    spec = phase.train.mixture
    if spec is None:
        return
    heard = [term.from_ for term in phase.objective.values() if _uses_teacher(term, desk.allow_code)]
    if phase.data.domain is None:
        desk.problem(f"{prefix}.mixture", "there are no domains to mix; name the column that tells them with `data.domain`.")
    if spec.teacher not in heard:
        known = ", ".join(map(repr, dict.fromkeys(heard))) or "none"
        desk.problem(f"{prefix}.mixture", f"expected a teacher that this stage listens to ({known}), found {spec.teacher!r}.")
    elif (found := teacher_specs(desk.recipe).get(spec.teacher)) is not None and found.kind == STORED:
        desk.problem(f"{prefix}.mixture", f"{spec.teacher!r} is a store of answers to training texts; held-out texts need a live teacher.")


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
