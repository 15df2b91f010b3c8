"""From a validated recipe to plain objects: requests, terms, plans, phases. No data is read and no model built here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from .config.load import LoadedRecipe
from .config.schema import (
    DataSpec,
    EMASpec,
    Kept,
    ModelSpec,
    Normalize,
    OptimizerSpec,
    PeerSpec,
    Recipe,
    Schedule,
    StageSpec,
    TargetSpec,
    TeacherSpec,
    TermSpec,
    TrainSpec,
)
from .data.arguments import build
from .data.base import DataRequest
from .data.joint import DatasetRequest
from .data.loader import EpochPlan
from .data.mixing import MIXINGS
from .data.mixing.base import Mixing
from .data.pools import PoolRequest
from .data.views import ViewRequest
from .engine.ema import EMA
from .engine.optim import LRPlan
from .engine.stage import Plan
from .errors import LimbeckError, UnknownName
from .models.base import ModelRequest, Normalization
from .objective import Ramp, Term
from .objective.schedules import between, scaled
from .registry import LOSSES, STEPS, TARGETS, TASKS, TEACHERS
from .targets.base import Target
from .tasks.base import Task
from .teachers.base import Teacher
from .types import Share

ALONE = "alone"
"""Name of the student that is trained without any teacher, for comparison."""
PEERS = "peers"
"""What a term listens to that listens to all other members of its stage."""
RANDOM = "random"
"""Explicit word for a model without weights."""
STORED = "stored"
"""Kind of a teacher whose answers were written down; stages that would train it are left out."""


PATH_SCHEMES = ("folder", "idx", "npz", "csv", "jsonl", "parquet", "hf")
"""Data sources whose location may be a path."""


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
    start: Literal["continue", "fresh"] = "continue"
    repeat: int = 1
    between: str | None = None
    peers: Mapping[str, PeerSpec] = field(default_factory=dict)
    """Models that learn in the same updates."""

    @property
    def members(self) -> tuple[str, ...]:
        """Everyone who learns, the learner first."""
        return (self.learner, *self.peers)


def located(loaded: LoadedRecipe) -> Recipe:
    """The recipe with every relative path made absolute, so that it means the same from any folder."""
    recipe = loaded.recipe

    def path(text: str | None, key: str) -> str | None:
        if text is None or Path(text).is_absolute():
            return text
        found = loaded.find(text, key)
        return str(found.resolve()) if found is not None else text

    def model(spec: Any, key: str) -> Any:
        scheme, _, rest = spec.model.partition(":")
        reference = f"hf:{path(rest, f'{key}.model')}" if scheme == "hf" else spec.model
        changes: dict[str, Any] = {"model": reference, "weights": path(spec.weights, f"{key}.weights")}
        if isinstance(spec, TeacherSpec) and spec.kind == STORED:
            changes["path"] = path(str((spec.model_extra or {}).get("path")), f"{key}.path")
        return spec.model_copy(update=changes)

    def source(text: str, key: str) -> str:
        scheme, _, rest = text.partition(":")
        return f"{scheme}:{path(rest, f'{key}.source')}" if scheme in PATH_SCHEMES else text

    def data(spec: DataSpec, key: str) -> DataSpec:
        changes: dict[str, Any] = {"source": source(spec.source, key), "tokenizer": path(spec.tokenizer, f"{key}.tokenizer")}
        several = ((name, own, f"{key}.datasets.{name}") for name, own in spec.datasets.items())
        changes["datasets"] = {name: own.model_copy(update={"source": source(own.source, place)}) for name, own, place in several}
        if spec.pool is not None:
            changes["pool"] = spec.pool.model_copy(update={"source": source(spec.pool.source, f"{key}.pool")})
        if spec.select is not None and spec.select.manifest is not None:
            changes["select"] = spec.select.model_copy(update={"manifest": path(spec.select.manifest, f"{key}.select.manifest")})
        return spec.model_copy(update=changes)

    def stage(spec: StageSpec, key: str) -> StageSpec:
        own = {"data": data(spec.data, f"{key}.data") if spec.data is not None else None}
        return spec.model_copy(update={**own, "teacher": model(spec.teacher, f"{key}.teacher") if spec.teacher is not None else None})

    return recipe.model_copy(
        update={
            "data": data(recipe.data, "data"),
            "student": model(recipe.student, "student"),
            "teacher": model(recipe.teacher, "teacher") if recipe.teacher is not None else None,
            "teachers": {name: model(spec, f"teachers.{name}") for name, spec in recipe.teachers.items()},
            "models": {name: model(spec, f"models.{name}") for name, spec in recipe.models.items()},
            "stages": {name: stage(spec, f"stages.{name}") for name, spec in recipe.stages.items()},
        }
    )


def build_task(recipe: Recipe, *, allow_code: bool) -> Task:
    """The recipe's task."""
    return TASKS.get(recipe.task, allow_code=allow_code)()


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


def member_terms(phase: Phase, member: str, *, allow_code: bool, shares: Mapping[str, Share] = MappingProxyType({})) -> list[Term]:
    """The terms of a member; one that listens to `peers` becomes one for each other member, which share its weight.

    Args:
        shares: what each of several data sets has of the outputs, for the terms that are for one of them.
    """
    others = [name for name in phase.members if name != member]
    terms: list[Term] = []
    for label, spec in objective_of(phase, member).items():
        sources = others if spec.from_ == PEERS else [spec.from_]
        for source in sources:
            term = build_term(label, spec, allow_code=allow_code)
            term.source, term.peer = source, source in others
            term.share = _share(label, spec.only, shares)
            if len(sources) > 1:
                term.label, term.part_of, term.weight = f"{label}:{source}", label, scaled(term.weight, 1 / len(sources))
            terms.append(term)
    return terms


def _share(label: str, name: str | None, shares: Mapping[str, Share]) -> Share | None:
    """The data set that a term is for."""
    if name is not None and name not in shares:
        raise UnknownName("data set", name, shares, f"objective.{label}.only is a name under data.datasets.")
    return shares[name] if name is not None else None


def build_term(label: str, spec: TermSpec, *, allow_code: bool) -> Term:
    """A term with its loss.

    Raises:
        LimbeckError: where the loss or a target refuses its hyper-parameters.
    """
    cls = LOSSES.get(spec.loss, allow_code=allow_code)
    ramps = {name: _ramp(schedule) for name, schedule in spec.schedules.items()}
    try:
        loss = cls(**spec.options, **{name: ramp.start for name, ramp in ramps.items()})
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"objective.{label}: {error}") from None
    return Term(
        label=label,
        loss=loss,
        weight=weight_of(spec),
        student=tuple(spec.student),
        teacher=tuple(spec.teacher),
        source=spec.from_,
        adapter=spec.adapter.kind,
        adapter_options=dict(spec.adapter.model_extra or {}),
        ramps=ramps,
        targets=tuple(_target(label, target, allow_code=allow_code) for target in spec.targets),
    )


def weight_of(spec: TermSpec, kept: float = 1.0) -> float | Ramp:
    """The weight of a term, where a share `kept` of the training examples is kept."""
    if isinstance(spec.weight, Kept):
        return between(spec.weight.kept, kept)
    return _ramp(spec.weight) if isinstance(spec.weight, Schedule) else spec.weight


def _target(label: str, spec: TargetSpec, *, allow_code: bool) -> Target:
    try:
        return TARGETS.get(spec.name, allow_code=allow_code)(**(spec.model_extra or {}))
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"objective.{label}: {error}") from None


def _ramp(schedule: Schedule) -> Ramp:
    return Ramp(schedule.schedule, schedule.start, schedule.end, schedule.begin, schedule.until)


def model_request(spec: ModelSpec) -> ModelRequest:
    """A model as the models layer wants it."""
    normalize: Any = spec.normalize
    if isinstance(normalize, Normalize):
        normalize = Normalization(tuple(normalize.mean), tuple(normalize.std))
    weights = None if spec.weights == RANDOM else spec.weights
    return ModelRequest(spec.model, weights, dict(spec.prefix), dict(spec.args), normalize, spec.view)


def data_request(spec: DataSpec, recipe: Recipe) -> DataRequest:
    """Data as the data layer wants it; the tokenizer is the student's own where none is named."""
    tokenizer = spec.tokenizer
    if tokenizer is None and recipe.student.model.startswith("hf:"):
        tokenizer = recipe.student.model.removeprefix("hf:")
    return DataRequest(
        source=spec.source,
        args=dict(spec.args),
        datasets={name: DatasetRequest(own.source, own.labels, dict(own.args)) for name, own in spec.datasets.items()},
        only=list(spec.only),
        valid=spec.split.valid,
        test=spec.split.test,
        split_seed=spec.split.seed,
        group=spec.split.group,
        classes=[str(name) for name in spec.classes],
        label_fraction=spec.label_fraction,
        unlabelled=spec.unlabelled,
        limit=spec.limit,
        size=spec.size,
        transforms=list(spec.transforms),
        tokenizer=tokenizer,
        max_length=spec.max_length,
        pool=PoolRequest(spec.pool.source, dict(spec.pool.args), spec.pool.limit) if spec.pool is not None else None,
        select=spec.select.manifest if spec.select is not None else None,
        test_transforms=list(spec.test_transforms),
        views={name: ViewRequest(**dict(view)) for name, view in spec.views.items()},
    )


def build_mixing(spec: DataSpec, *, allow_code: bool) -> Mixing | None:
    """How the inputs of an update are mixed; None where they are not.

    Raises:
        LimbeckError: where the kind refuses its fields.
    """
    if spec.mix is None:
        return None
    return build(MIXINGS.get(spec.mix.kind, allow_code=allow_code), dict(spec.mix.model_extra or {}), f"data.mix {spec.mix.kind!r}")


def plan(phase: Phase, task: Task, *, seed: int, round: int, steps: int | None, allow_code: bool = False) -> Plan:  # noqa: A002
    """How one round of a phase is trained.

    Args:
        steps: a number of updates that overrides the phase's own.
    """
    train = phase.train
    rate = train.schedule
    monitor = train.monitor or task.monitor
    return Plan(
        name=phase.name,
        learner=phase.learner,
        round=round,
        rounds=phase.repeat,
        seed=seed,
        epochs=train.epochs,
        steps=steps if steps is not None else train.steps,
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        workers=train.workers,
        clip=train.clip,
        rate=LRPlan(rate.name, rate.warmup, rate.final, tuple(rate.milestones), rate.gamma, rate.patience),
        log_every=train.log_every,
        evaluate_every=train.evaluate_every,
        checkpoint_every=train.checkpoint_every,
        monitor=monitor,
        maximize=task.better.get(monitor, True),
        select_best=train.select == "best",
        patience=train.early_stop.patience if train.early_stop else None,
        min_delta=train.early_stop.min_delta if train.early_stop else 0.0,
        crops=phase.data.crops,
        mixing=build_mixing(phase.data, allow_code=allow_code),
    )


def length(plan: Plan, examples: int) -> tuple[int, int]:
    """Updates and epochs of a round on so many training examples."""
    per_epoch = EpochPlan(examples, batch_size=plan.batch_size, crops=plan.crops).updates
    updates = plan.steps or plan.epochs * per_epoch
    return updates, -(-updates // per_epoch)


def average(module: nn.Module, spec: EMASpec | None, updates: int) -> EMA | None:
    """The average that a stage of so many updates keeps of a model; None where it keeps none."""
    if spec is None:
        return None
    begin = round(spec.begin * updates)
    return EMA(module, spec.decay, mean=spec.rule == "mean", every=spec.every, begin=begin, warmup=spec.warmup)


def teacher_specs(recipe: Recipe) -> dict[str, TeacherSpec]:
    """Every teacher of the recipe by name, of whatever kind."""
    single = {"teacher": recipe.teacher} if recipe.teacher is not None else {}
    return {**single, **recipe.teachers}


def teacher_models(recipe: Recipe, *, allow_code: bool) -> dict[str, TeacherSpec]:
    """Those that have a model of their own, which is built, may be trained in a stage, and is judged in the results."""
    return {name: spec for name, spec in teacher_specs(recipe).items() if teacher_kind(spec, allow_code=allow_code).source == "own"}


def teacher_kind(spec: TeacherSpec, *, allow_code: bool) -> type[Teacher]:
    """The class of a teacher."""
    return TEACHERS.get(spec.kind, allow_code=allow_code)


def store_of(spec: TeacherSpec) -> str:
    """Folder or address of the store of a stored teacher."""
    return str((spec.model_extra or {}).get("path"))


def build_teacher(name: str, spec: TeacherSpec, *, allow_code: bool) -> Teacher:
    """A teacher, not yet open.

    Raises:
        LimbeckError: where the kind refuses its fields.
    """
    try:
        return teacher_kind(spec, allow_code=allow_code)(**(spec.model_extra or {}))
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"{name}: {error}") from None
