"""A run under way: its models, data and place in the order of phases; what it takes to go on after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from . import assemble
from .assemble import ALONE, Phase
from .belonging import check_stores
from .config.data_schema import DataSpec
from .config.load import LoadedRecipe
from .config.model_schema import ModelSpec, TeacherSpec
from .data.base import Examples, Splits
from .data.load import load_data
from .data.loader import BatchStream, EpochPlan, eval_loader
from .engine import checkpoint
from .engine.backend import DTYPES, Backend
from .engine.checkpoint import seed_everything
from .engine.evaluation import Collected, collect
from .engine.learner import Learner
from .engine.loop import Outcome, train
from .engine.member import Member
from .engine.stage import Plan, Stage
from .engine.steps.base import Context
from .engine.watch import Journal, Listener
from .enrolment import Enrolment
from .errors import Interrupted, LimbeckError
from .faculty import Faculty, replay_of
from .files import writing
from .models.base import BuiltModel
from .models.build import build_model
from .models.documents import check_packing, reads_documents
from .models.lora import without_adapters
from .registry import ACTIONS, STEPS
from .rounds import Done, Shelf, last_of
from .settling import settled
from .starting import begin
from .teachers.base import Call, Teacher
from .types import Batch, labelled

EVAL_BATCH = 256


@dataclass
class Session:
    """Everything that a run holds; phases are run one after the other."""

    loaded: LoadedRecipe
    folder: Path
    backend: Backend
    listener: Listener
    journal: Journal
    interrupted: Callable[[], bool]
    allow_code: bool
    before_round: Callable[[Session, int, int], None] = lambda session, number, turn: None
    """Called with the place in the order of phases before every round, with the models as they enter it."""
    models: dict[str, BuiltModel] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    adapters: dict[str, Any] = field(default_factory=dict)
    taps: dict[str, list[str]] = field(default_factory=dict)
    """Layers of each model that were compared while the student was taught, for the similarity of representations."""
    touched: set[str] = field(default_factory=set)
    """Models that a finished round has changed."""
    shelf: Shelf | None = None
    """Where finished phases of other runs may be found."""

    def __post_init__(self) -> None:
        self.recipe = assemble.located(self.loaded)
        self.task = assemble.build_task(self.recipe, allow_code=self.allow_code)
        self.phases = assemble.phases(self.recipe, self.task, allow_code=self.allow_code)
        self._data: dict[str, Splits] = {}
        self._told: list[str] = []
        self._specs: dict[str, ModelSpec] = {
            "student": self.recipe.student,
            **({ALONE: self.recipe.student.model_copy(update={"sources": None})} if self.recipe.baseline else {}),
            **assemble.teacher_models(self.recipe, allow_code=self.allow_code),
            **self.recipe.models,
        }
        self._precisions = {name: spec.precision for name, spec in assemble.teacher_specs(self.recipe).items()}

    # data and models

    def data(self, spec: DataSpec | None = None) -> Splits:
        """The data of a phase, read once."""
        spec = spec or self.recipe.data
        key = spec.model_dump_json(exclude={"mix", "crops"})  # they change batches, not what is read
        if key not in self._data:
            request = assemble.data_request(spec, self.recipe)
            load = partial(load_data, kind=self.task.data_kind, labels=self.task.labels, language=self.task.language)
            self._data[key] = load(request, allow_code=self.allow_code, told=self.listener.message)
            for note in self._data[key].notes:
                if note not in self._told:
                    self._told.append(note)
                    self.listener.message(note)
        return self._data[key]

    def build_models(self) -> None:
        """Builds every model of the recipe, each from a seed of its own, so that one does not shift another."""
        self.task = self.task.on(self.data().info)
        for name, spec in self._specs.items():
            self.models[name] = self.build(name, spec)

    def build(self, name: str, spec: ModelSpec, round: int = 0) -> BuiltModel:  # noqa: A002
        """A model with its initial weights, by a seed that follows from its name."""
        info = self.data().info
        seed_everything(self.seed("student" if name == ALONE else name, round))
        try:
            built = build_model(assemble.model_request(spec), info, allow_code=self.allow_code, batches=self._first_inputs)
            if self.recipe.data.pack and spec.view is None and reads_documents(built.module):  # a view shows documents one by one
                check_packing(built.module)
            return built
        except LimbeckError as error:
            raise type(error)(f"{name}: {error}") if type(error).__init__ is Exception.__init__ else error from None

    def _first_inputs(self) -> list[Any]:
        """Inputs of the first training examples, on which the influence of layers is measured."""
        return [batch.inputs for batch in islice(eval_loader(self.data().train, batch_size=8), 4)]

    def seed(self, purpose: str, round: int = 0) -> int:  # noqa: A002
        """A seed for one purpose, derived from the recipe's."""
        return assemble.seed_of(self.recipe.seed, purpose, round)

    def call(self, name: str, view: str | None = None) -> Call:
        """How the model called `name` is run on a batch: on the given view of it, else on its own."""
        built = self.models[name]
        return partial(self._call, built.normalization, view or built.request.view)

    def _call(self, normalization: Any, view: str | None, model: Any, batch: Batch) -> Any:
        return self.task.call(model, normalization, batch.shown(view))

    # what an action may do

    def roster(self, phase: Phase, round: int) -> RoundRoster:  # noqa: A002
        """The models as an action after `round` of `phase` sees them."""
        return RoundRoster(self, phase, round)

    # training

    def run(self, resume: bool, *, phases: int | None = None) -> None:
        """Runs what is left of the phases, or of the first so many of them."""
        start, written = self._restore() if resume else ((0, 0), (0, 0.0))
        point = checkpoint.latest(self.folder / "checkpoints") if resume else None
        place = _tag_of(point) if point is not None else None
        if place != start:  # no checkpoint within the round to go on with, which would know its own place in the journal
            self.journal.resume(*written)
        if phases is None:
            check_stores(self, start[0])
        for number, phase in enumerate(self.phases[:phases]):
            began = written if place == (number, 0) else (self.journal.lines, self.journal.seconds)
            if self.shelf is not None and (number, 0) >= start and self.shelf.fetch(self, number, began):
                self._snapshot(number, phase.repeat - 1)
                continue
            for turn in range(phase.repeat):
                if (number, turn) < start:
                    continue
                if turn == 0:
                    begin(phase, self.models, partial(self._restart, round=0))
                self.before_round(self, number, turn)
                outcome = self._round(phase, number, turn, point if place == (number, turn) else None)
                self.done.append(Done(phase.name, phase.learner, turn, outcome))
                self.touched.update(phase.members)
                if phase.between is not None and turn + 1 < phase.repeat:
                    ACTIONS.get(phase.between, allow_code=self.allow_code)().apply(self.roster(phase, turn), turn)
                self._snapshot(number, turn)
            if self.shelf is not None:
                self.shelf.keep(self, number)

    def _restart(self, name: str, round: int) -> None:  # noqa: A002
        fresh = self.build(name, self._specs[name], round)
        self.models[name].module.load_state_dict(fresh.module.state_dict())

    def _round(self, phase: Phase, number: int, turn: int, resume: Path | None) -> Outcome:
        stage = self.stage(phase, number, turn)
        try:
            return train(stage, resume)
        finally:
            for member in stage.members:
                member.learner.close()
            for teacher in stage.context.teachers.values():
                teacher.close()

    def stage(self, phase: Phase, number: int, turn: int) -> Stage:
        """A round of a phase, ready to train."""
        phase = settled(self, phase)
        self.backend.precision = phase.train.precision
        splits = self.data(phase.data)
        plan = self._plan(phase, splits, turn)
        seed_everything(self.seed(f"setup-{phase.name}", turn))
        enrolment = self._enrolment(phase)
        teachers = self._teachers(phase, enrolment, plan, splits.train)
        plan = replace(plan, replay=replay_of(teachers))
        first = splits.train
        if plan.replay is not None and self.task.labels == "token":  # a store knows no other masks than those that it was asked about
            first = first.augmented(plan.replay[0], 0)
        self._note(phase, enrolment, enrolment.enrol(teachers, first))
        context = Context(
            backend=self.backend,
            learner=enrolment.learners[phase.learner],
            players=enrolment.players(plan.rate),
            teachers=teachers,
            heard=tuple(enrolment.demand().teacher_names()),
            calls={name: self.call(name) for name in self.models},
            examples=len(splits.train),
            cohort=enrolment.cohort,
        )
        name = "cohort" if phase.peers and phase.train.step == "supervised" else phase.train.step
        return Stage(
            plan=plan,
            context=context,
            step=STEPS.get(name, allow_code=self.allow_code)(context),
            train=splits.train,
            partly_labelled=not bool(labelled(splits.train.labels).all()),
            members=tuple(self._member(phase, splits, plan, *item) for item in enrolment.learners.items()),
            journal=self.journal,
            listener=self.listener,
            folder=self.folder,
            tag={"stage": number, "round": turn},
            interrupted=self.interrupted,
            mixture=assemble.mixture_of(phase, splits, teachers, plan.seed),
        )

    def _enrolment(self, phase: Phase) -> Enrolment:
        teacher, shares = partial(self._teacher_model, phase), self.data(phase.data).info.shares
        return Enrolment(phase, self.recipe, self.models, self.call, self.backend, self.allow_code, teacher, shares)

    def _member(self, phase: Phase, splits: Splits, plan: Plan, name: str, learner: Learner) -> Member:
        evaluate = partial(self._valid, phase, splits, name) if splits.valid is not None and len(splits.valid) else None
        suffix = "" if name == phase.learner else f"-{name}"
        file = self.folder / "checkpoints" / f"best-{plan.name}-{plan.round}{suffix}.safetensors"
        average = assemble.average(learner.model, phase.train.ema, assemble.length(plan, len(splits.train))[0])
        return Member(name, learner, evaluate, file, average, last_of(self.folder, name))

    def _plan(self, phase: Phase, splits: Splits, turn: int) -> Plan:
        """The plan of a round; the student alone gets as many updates and evaluations as the student that is taught."""
        # The taught student and the student alone share a seed, so that they differ in nothing but the teacher.
        seed = self.seed("train-" + ("student" if phase.learner in ("student", ALONE) else phase.name), turn)
        own = assemble.plan(phase, self.task, seed=seed, round=turn, steps=None, allow_code=self.allow_code)
        if phase.learner != ALONE:
            return own
        others = [other for other in self.phases if other.learner == "student" and other.key == phase.key]
        taught = self.data(phase.data.model_copy(update={"unlabelled": others[0].data.unlabelled}))
        size = partial(EpochPlan, batch_size=own.batch_size, accumulate=own.accumulate, world=self.backend.world, crops=own.crops)
        long, short = size(len(taught.train)).updates, size(len(splits.train)).updates
        steps = (own.steps or own.epochs * long) * sum(other.repeat for other in others)
        return replace(own, steps=steps, evaluate_every=max(1, round(own.evaluate_every * long / short)))

    def _teachers(self, phase: Phase, enrolment: Enrolment, plan: Plan, train: Examples) -> dict[str, Teacher]:
        return Faculty(
            specs=assemble.teacher_specs(self.recipe),
            phase=phase,
            objective=enrolment.demand(),
            learner=enrolment.model(phase.learner),
            learner_name=phase.learner,
            bare=partial(without_adapters, self.models[phase.learner].module, self.models[phase.learner].frozen),
            model=partial(self._teacher_model, phase),
            call=self.call,
            device=self.backend.device,
            examples=train,
            span=assemble.length(plan, len(train)),
            info=self.data().info,
            seed=plan.seed,
            total=self.backend.sum,
            allow_code=self.allow_code,
        ).open()

    def _teacher_model(self, phase: Phase, name: str, spec: TeacherSpec) -> BuiltModel:
        """The model of a teacher: the run's own, that of a stage with another teacher, or one that is only looked at."""
        if phase.teacher is not None and name == "teacher":
            self.models[name] = self.build(f"{phase.name}-teacher", spec)
        return self.models[name] if name in self.models else self.build(name, spec)

    def teachers_of(self, phase: Phase) -> dict[str, Teacher]:
        """The teachers of a phase, ready to be asked outside of training."""
        splits = self.data(phase.data)
        return self._teachers(phase, self._enrolment(phase), self._plan(phase, splits, 0), splits.train)

    def _note(self, phase: Phase, enrolment: Enrolment, made: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> None:
        """Remembers which adapters were made, and which layers were compared."""
        prefix = f"{phase.key}." if phase.key else ""
        for name, labels in made.items():
            own = prefix if name == phase.learner else f"{prefix}peers.{name}."
            for label, descriptions in labels.items():
                single = len(descriptions) == 1 and not phase.peers  # where members share a term, each has an adapter of its own
                self.adapters[f"{own}objective.{label}.adapter"] = descriptions[0] if single else descriptions
        if phase.learner == "student":
            for term in enrolment.objectives["student"].terms.values():
                if term.loss.needs.teacher:
                    for name, taps in (("student", term.student), (term.source, term.teacher)):
                        known = self.taps.setdefault(name, [])
                        known += [tap for tap in taps if tap not in known]

    # evaluation

    def collect(self, name: str, split: str, spec: DataSpec | None = None, precision: str | None = None) -> Collected:
        """What the model called `name` says about a split; in its own precision, else the given, else the recipe's."""
        splits = self.data(spec)
        examples = splits.test if split == "test" else splits.valid
        if examples is None:
            raise LimbeckError(f"the data has no {split} split.")
        return self.ask(name, examples, range(len(examples)), precision, final=split == "test")

    def ask(self, name: str, examples: Examples, rows: Sequence[int], precision: str | None = None, final: bool = True) -> Collected:
        """What the model called `name` says about the examples at some positions; `final` after all stages, when Ctrl-C may stop it."""
        backend = self.backend
        mine = rows[backend.rank :: backend.world]
        loader = BatchStream(examples, [list(mine[start : start + EVAL_BATCH]) for start in range(0, len(mine), EVAL_BATCH)])
        module = self.models[name].module.to(backend.device)
        own = DTYPES[self._precisions.get(name) or precision or self.recipe.train.precision]
        # Between the stages everything is saved, so the last evaluation may be left; within one, the loop stops after it.
        stop = self._stop_here if final else None
        return collect(module, self.call(name), loader, backend, name=name, precision=own, interrupted=stop)

    def _stop_here(self) -> None:
        if self.backend.world == 1 and self.interrupted():
            raise Interrupted("stopped during the last evaluation; everything is saved.")

    def _valid(self, phase: Phase, splits: Splits, name: str) -> dict[str, float]:
        said = self.collect(name, "valid", phase.data, phase.train.precision)
        return self.task.report(said.logits, said.labels, said.examples)

    # going on after a kill

    def _snapshot(self, number: int, turn: int) -> None:
        """Keeps the weights of every model that a finished round has changed; replaced as a whole."""
        if self.backend.is_main:
            parts = {name: self.models[name].module.state_dict() for name in sorted(self.touched)}
            state = {f"{name}/{key}": value for name, part in parts.items() for key, value in part.items()}
            record = {
                "tag": [number, turn],
                "done": [asdict(item) for item in self.done],
                "journal": {"lines": self.journal.lines, "seconds": self.journal.seconds},
                "adapters": self.adapters,
                "taps": self.taps,
                "touched": sorted(self.touched),
            }
            with writing(self.folder / "checkpoints" / "models.safetensors") as temporary:
                tensors = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
                save_file(tensors, temporary, metadata={"record": json.dumps(record)})
        self.backend.wait()

    def _restore(self) -> tuple[tuple[int, int], tuple[int, float]]:
        """Puts back the models of the finished rounds.

        Returns:
            The round to go on with, and how many lines of metrics there were at its beginning, after how many seconds.
        """
        path = self.folder / "checkpoints" / "models.safetensors"
        if not path.exists():
            return (0, 0), (0, 0.0)
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["record"])
        tensors = checkpoint.load_tensors(path)
        for name in record["touched"]:
            own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
            self.models[name].module.load_state_dict(own)
        self.done = [Done(**{**item, "outcome": Outcome(**item["outcome"])}) for item in record["done"]]
        self.adapters, self.taps, self.touched = record["adapters"], record["taps"], set(record["touched"])
        number, turn = record["tag"]
        after = (number, turn + 1) if turn + 1 < self.phases[number].repeat else (number + 1, 0)
        return after, (record["journal"]["lines"], record["journal"]["seconds"])


@dataclass(frozen=True)
class RoundRoster:
    """The models of a run as an action between two rounds sees them."""

    session: Session
    phase: Phase
    turn: int

    def model(self, name: str) -> nn.Module:
        """The model called `name`; the learner's is `learner`."""
        return self.session.models[self.phase.learner if name == "learner" else name].module

    def restart(self, name: str) -> None:
        """Initial weights of the coming round."""
        own = self.phase.learner if name == "learner" else name
        self.session._restart(own, self.turn + 1)  # noqa: SLF001 - the roster is the session's face to actions

    def teacher_names(self) -> list[str]:
        """The teachers that the phase listens to; they count as changed from now on."""
        names = [term.from_ for term in self.phase.objective.values() if term.from_ not in self.phase.members]
        known = [name for name in dict.fromkeys(names) if name in self.session.models]
        self.session.touched.update(known)
        return known


def _tag_of(path: Path) -> tuple[int, int]:
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    return state["tag"]["stage"], state["tag"]["round"]
