"""What will be trained, in order: stages with everything they inherit, and the student alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..config.data_schema import DataSpec
from ..config.model_schema import TeacherSpec
from ..config.schema import PeerSpec, Recipe, StageSpec
from ..config.term_schema import TermSpec
from ..config.train_schema import OptimizerSpec, TrainSpec
from ..errors import LimbeckError
from ..registry import LOSSES, STEPS
from ..tasks.base import Task
from .teachers import STORED, teacher_specs

ALONE = "alone"
"""Name of the student that is trained without any teacher, for comparison."""


@dataclass(frozen=True)
class Phase:
    """A stage with everything it inherits written out."""

    name: str
    learner: str
    data: DataSpec
    objective: Mapping[str, TermSpec]
    train: TrainSpec
    key: str = ""
    """Dotted path of the stage in the recipe, for messages; empty where the recipe has no stages."""
    teacher: TeacherSpec | None = None
    """A teacher of this stage's own."""
    trainable: tuple[str, ...] = ()
    start: str = "continue"
    """`continue`, `fresh`, or the model whose weights the learner begins with."""
    repeat: int = 1
    between: str | None = None
    peers: Mapping[str, PeerSpec] = field(default_factory=dict)
    """Models that learn in the same updates."""

    @property
    def members(self) -> tuple[str, ...]:
        """Everyone who learns, the learner first."""
        return (self.learner, *self.peers)


def phases(recipe: Recipe, task: Task, *, allow_code: bool) -> list[Phase]:
    """What will be trained, in order: the stages, and the student alone before the first stage that trains it."""
    stored = {name for name, spec in teacher_specs(recipe).items() if spec.kind == STORED}
    found = [_phase(recipe, name, stage) for name, stage in recipe.stages.items() if stage.learner not in stored]
    if not recipe.stages:
        found = [Phase("distil", "student", recipe.data, recipe.objective, recipe.train, peers=recipe.peers)]
    if not recipe.baseline:
        return found
    first = next((i for i, phase in enumerate(found) if phase.learner == "student"), None)
    if first is None:
        raise LimbeckError("baseline: true compares with the student trained alone, but no stage trains the student.")
    return [*found[:first], *_alone(found[first:], task, allow_code=allow_code), *found[first:]]


def _phase(recipe: Recipe, name: str, stage: StageSpec) -> Phase:
    objective = stage.objective if stage.objective is not None else (recipe.objective if stage.learner == "student" else {})
    own = stage.teacher if stage.teacher is not None and stage.teacher != recipe.teacher else None
    return Phase(
        name=name,
        learner=stage.learner,
        data=stage.data or recipe.data,
        objective=objective,
        train=stage.train or recipe.train,
        key=f"stages.{name}",
        teacher=own,
        trainable=tuple(stage.trainable),
        start=stage.start,
        repeat=stage.repeat,
        between=stage.between,
        peers=stage.peers or {},
    )


def _alone(student_phases: list[Phase], task: Task, *, allow_code: bool) -> list[Phase]:
    """The student's stages without their teacher.

    So that the comparison is fair, the student alone gets the same number of updates, every one of them full of
    labelled examples, and the weight of a single supervised term is 1.
    """
    alone: list[Phase] = []
    for phase in student_phases:
        if phase.learner != "student":
            continue
        kept = {label: term for label, term in phase.objective.items() if not _teaches(term, allow_code=allow_code)}
        if len(kept) == 1:
            kept = {label: term.model_copy(update={"weight": 1.0}) for label, term in kept.items()}
        if not kept and phase is student_phases[-1] and not alone:
            if not task.loss:
                text = "baseline: true trains the student on labels alone, and no term of it reads the labels of a data set."
                raise LimbeckError(f"{text} Add one for each data set, such as `labels: {{loss: cross_entropy, only: NAME}}`.")
            kept = {"labels": TermSpec(loss=task.loss)}
        if kept:
            data = phase.data.model_copy(update={"unlabelled": False})
            name = ALONE if len(student_phases) == 1 or not alone else f"{ALONE}-{phase.name}"
            single: dict[str, Any] = {"teacher": None, "repeat": 1, "between": None, "peers": {}, "train": _untaught(phase.train)}
            alone.append(replace(phase, name=name, learner=ALONE, data=data, objective=kept, **single))
    return alone


def _untaught(train: TrainSpec) -> TrainSpec:
    """The training without a step that works with a teacher only."""
    taught = train.step in STEPS.names() and STEPS.get(train.step).taught
    return train.model_copy(update={"step": "supervised"}) if taught else train


def _teaches(spec: TermSpec, *, allow_code: bool) -> bool:
    """Whether a term listens to a teacher, or takes the place of one."""
    loss = LOSSES.get(spec.loss, allow_code=allow_code)(**spec.options)
    return loss.needs.teacher or loss.teaches


def objective_of(phase: Phase, member: str) -> Mapping[str, TermSpec]:
    """What a member learns from, as the recipe says it."""
    own = phase.peers[member].objective if member in phase.peers else None
    return phase.objective if own is None else own


def optimizer_of(phase: Phase, member: str, recipe: Recipe) -> OptimizerSpec:
    """The optimizer that moves a member."""
    if member not in phase.peers:
        return phase.train.optimizer
    spec = recipe.models.get(member)
    return phase.peers[member].optimizer or (spec.optimizer if spec is not None else None) or phase.train.optimizer
