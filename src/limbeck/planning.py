"""What a recipe will cost before anything is trained: `limbeck.planning.plan` and `limbeck plan`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from . import assemble
from .assemble import ALONE, Phase
from .calibration import Labelled, Pace, calibrate, calibrate_labelling
from .config.load import LoadedRecipe, load_recipe
from .data.base import Splits
from .data.language.rows import LanguageExamples
from .engine.backend import Backend
from .engine.watch import Journal, Listener, Silent
from .errors import CodeNotAllowed, LimbeckError
from .finishing import finishing
from .labelling import BATCH, SHARD, Labelling, draft, listening
from .preflight import preflight
from .rehearsal import rehearse
from .rollouts import pretend
from .session import Session
from .store.manifest import TOKENS, Manifest
from .store.places import Local
from .store.size import choices, store_size
from .teachers.base import Teacher

NETWORK = 1.25e9
"""Bytes a second between machines that the estimate assumes: 10 gigabits."""
BUDGET = 1.0
"""Seconds of timed updates a stage."""


@dataclass(frozen=True)
class StagePlan:
    """A stage, as it will be."""

    name: str
    learner: str
    rounds: int
    updates: int
    """Of one round."""
    epochs: float
    batch: int
    """Examples of an update."""
    flops_forward: int
    """The learner's forward for one example, as far as its terms need it."""
    flops_training: int
    """The learner's part of a training step for one example: forward, objective and backward."""
    flops_teachers: dict[str, int]
    """Each teacher's forward for one example."""
    teacher_share_of_flops: float
    teacher_share_of_time: float
    """Share of an update that the teachers take."""
    peak_memory_bytes: int
    """Most bytes of tensors during an update, data aside."""
    seconds_per_update: float
    seconds: float
    """All rounds with evaluations and checkpoints, teachers live; early stopping would make it less."""
    stored_seconds_per_update: float | None = None
    """With the teachers' answers read from a store; None where there is nothing that can be stored."""
    stored_seconds: float | None = None


@dataclass(frozen=True)
class StorePlan:
    """The store of a teacher's answers."""

    teacher: str
    examples: int
    """Of texts documents."""
    bytes: int
    """Of one view as `limbeck label` writes it without `--signal`: every signal dense in fp16, of texts the likeliest tokens; all files."""
    signals: dict[str, dict[str, Any]]
    """By signal: `shape`, and `bytes` of a store of one view with this signal alone, by codec."""
    labelling_seconds: float
    """Of one view."""
    shard: int = SHARD
    """Examples of a file; machines divide whole files among them."""


@dataclass(frozen=True)
class MachinesPlan:
    """The same on several machines like this one."""

    machines: int
    training_seconds: float
    """All stages, teachers live."""
    stored_training_seconds: float | None
    labelling_seconds: float | None
    break_even_epochs: float | None


@dataclass(frozen=True)
class Outlook:
    """What a recipe will cost on this machine."""

    device: str
    stages: list[StagePlan]
    stores: list[StorePlan]
    peak_memory_bytes: int
    """The most of all stages."""
    setup_seconds: float
    """Reading data and building models."""
    judging_seconds: float
    """The results at the end: the test split, the costs of the models, the report."""
    training_seconds: float
    """All stages, teachers live."""
    total_seconds: float
    """A run with live teachers, from beginning to end."""
    stored_training_seconds: float | None
    """The stages of a run that reads the answers that can be stored from a store; those that train such a teacher are not among them."""
    teacher_training_seconds: float | None
    """The stages that train a teacher that can be stored; `limbeck label` runs them before it labels."""
    labelling_seconds: float | None
    """One view of every teacher that can be stored, once data and models are there and it is trained."""
    break_even_epochs: float | None
    """Epochs of the student after which labelling once has cost less than the live teacher; None where it never does."""
    machines: list[MachinesPlan]
    notes: list[str]


def plan(
    recipe: str | Path | Mapping[str, Any],
    *,
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - the same word as on the command line
    device: str | None = None,
    allow_code: bool = True,
    machines: int = 1,
    budget: float = BUDGET,
    listener: Listener | None = None,
) -> Outlook:
    """Estimates what a recipe will cost, from a few real updates of every stage and a small labelling.

    Nothing is kept: models are changed in memory only.

    Args:
        recipe: a recipe file, or the recipe itself as a mapping.
        set: overrides, as for `distill`.
        device: where it will run.
        allow_code: import code that the recipe names as `module:callable`.
        machines: also say what so many machines like this one would take.
        budget: seconds of timed updates a stage; more is more precise.
        listener: who is told which stage is timed.

    Raises:
        RecipeError: all problems of the recipe at once.
        LimbeckError: where there are more machines than examples of an update, or models or data cannot be had.
    """
    start = time.perf_counter()
    listener = listener or Silent()
    loaded = load_recipe(recipe, set=set, allow_code=allow_code)
    if loaded.code and not allow_code:
        raise CodeNotAllowed(loaded.code[0])
    checked = preflight(loaded, allow_code=allow_code, device=device)
    checked.raise_problems()
    with tempfile.TemporaryDirectory(prefix="limbeck-plan-") as folder:
        session = _session(loaded, Path(folder), device, allow_code)
        session.build_models()
        session.data()
        setup = time.perf_counter() - start
        return _Planner(session, listener, budget, machines, checked.notes).run(setup)


def _session(loaded: LoadedRecipe, folder: Path, device: str | None, allow_code: bool) -> Session:
    backend = Backend(precision=loaded.recipe.train.precision, device=device)
    if backend.world > 1:
        raise LimbeckError("limbeck plan runs in one process; say with --machines how many there will be.")
    (folder / "checkpoints").mkdir()
    return Session(loaded, folder, backend, Silent(), Journal(None, Silent()), lambda: False, allow_code)


class _Planner:
    """Everything that is known while a recipe is planned."""

    def __init__(self, session: Session, listener: Listener, budget: float, machines: int, notes: Sequence[str]) -> None:
        self.session, self.listener, self.budget, self.machines = session, listener, budget, machines
        self.notes = list(notes)
        self.stores: dict[str, StorePlan] = {}
        self.labelled: dict[str, Labelled] = {}
        self.writing: dict[str, float] = {}
        """Seconds in which the replies of a stage are written."""

    def run(self, setup: float) -> Outlook:
        session = self.session
        for phase in session.phases:
            if self.machines > 1 and phase.train.batch_size < self.machines * phase.train.accumulate:
                raise LimbeckError(
                    f"--machines {self.machines}: an update of stage {phase.name!r} has {phase.train.batch_size} examples for "
                    f"{phase.train.accumulate} forward pass(es) a machine; ask for fewer machines or raise train.batch_size."
                )
        paces: list[Pace] = []
        for phase in session.phases:
            self.listener.message(f"timing {phase.name} ...")
            if phase.data.rollouts is not None and phase.data.rollouts.file is None and phase.learner != ALONE:
                self.writing[phase.name] = pretend(session, phase)
                self.notes.append(f"{phase.name}: writing replies to all questions takes up to {self.writing[phase.name]:.0f} s.")
            paces.append(calibrate(session, phase, budget=self.budget))
        self._label()
        stages = [self._stage(phase, pace) for phase, pace in zip(session.phases, paces, strict=True)]
        training = sum(stage.seconds for stage in stages)
        judged = finishing(session, self._judged(), self.budget)
        labelling = sum(store.labelling_seconds for store in self.stores.values()) if self.stores else None
        return Outlook(
            device=session.backend.device.type,
            stages=stages,
            stores=list(self.stores.values()),
            peak_memory_bytes=max(stage.peak_memory_bytes for stage in stages),
            setup_seconds=setup,
            judging_seconds=judged,
            training_seconds=training,
            total_seconds=setup + training + judged,
            stored_training_seconds=self._from_stores(stages),
            teacher_training_seconds=sum(stage.seconds for stage in stages if stage.learner in self.stores) if self.stores else None,
            labelling_seconds=labelling,
            break_even_epochs=_break_even(paces, stages, labelling),
            machines=[self._machines(self.machines)] if self.machines > 1 else [],
            notes=self.notes,
        )

    def _from_stores(self, stages: Sequence[StagePlan]) -> float | None:
        """Seconds of the stages of a run that reads what can be stored; it leaves those out that train such a teacher."""
        left = [stage for stage in stages if stage.learner not in self.stores]
        times = [stage.stored_seconds if stage.stored_seconds is not None else stage.seconds for stage in left]
        return sum(times) if self.stores else None

    def _judged(self) -> list[str]:
        recipe = self.session.recipe
        teachers = assemble.teacher_models(recipe, allow_code=self.session.allow_code)
        return ["student", *([ALONE] if recipe.baseline else []), *(name for name in teachers if name in self.session.models)]

    # labelling

    def _label(self) -> None:
        """Writes a little of every teacher that the student hears and whose answers do not depend on the student."""
        session = self.session
        if not any(phase.learner == "student" for phase in session.phases):
            return
        phase = listening(session)
        splits = session.data(phase.data)
        for name, teacher in session.teachers_of(phase).items():
            try:
                if name in {term.from_ for term in phase.objective.values()} and self._keeps(phase, name):
                    self.listener.message(f"timing the labelling of {name} ...")
                    speaks = self._documents if isinstance(splits.train, LanguageExamples) else self._examples
                    self.labelled[name], self.stores[name] = speaks(phase, name, teacher, splits)
            finally:
                teacher.close()

    def _examples(self, phase: Phase, name: str, teacher: Teacher, splits: Splits) -> tuple[Labelled, StorePlan]:
        """Labelling of examples."""
        whole = draft(self.session, phase, teacher, splits.train, Labelling("", {}, teacher=name), 1)
        with tempfile.TemporaryDirectory(prefix="limbeck-plan-") as folder:
            found = calibrate_labelling(
                self.session,
                teacher,
                splits.train,
                whole,
                Local(Path(folder)),
                batch=BATCH,
                shard=SHARD,
                reads=phase.train.batch_size,
                budget=self.budget,
            )
        return found, _store(name, whole, found)

    def _documents(self, phase: Phase, name: str, teacher: Teacher, splits: Splits) -> tuple[Labelled, StorePlan]:
        """Labelling of the tokens of documents."""
        train = cast(LanguageExamples, splits.train)
        given = rehearse(
            self.session, teacher, train, splits.info.num_outputs, batch=BATCH, reads=phase.train.batch_size, budget=self.budget
        )
        signal = given.whole.signals[TOKENS]
        about = {"shape": list(signal.shape), "bytes": given.sizes}
        count = given.whole.examples
        return given.times, StorePlan(
            name, count, next(iter(given.sizes.values())), {TOKENS: about}, count * given.times.example, given.shard
        )

    def _keeps(self, phase: Phase, name: str) -> bool:
        """Whether a teacher says the same of an example whenever it is asked; the reason is noted where not."""
        specs = assemble.teacher_specs(self.session.recipe)
        spec = phase.teacher if phase.teacher is not None and name == "teacher" else specs[name]
        source = assemble.teacher_kind(spec, allow_code=self.session.allow_code).source
        if source == "learner":
            self.notes.append(f"{name}: a teacher of kind {spec.kind!r} follows the student, so its answers cannot be stored.")
        if any(other.between is not None for other in self.session.phases if other.learner == "student"):
            self.notes.append(f"{name}: models are exchanged between the rounds of a stage, so its answers cannot be stored.")
            return False
        members = (spec.model_extra or {}).get("members", ()) if source == "members" else ()
        return source == "own" or (source == "members" and all(self._keeps(phase, member) for member in members))

    # stages

    def _stage(self, phase: Phase, pace: Pace) -> StagePlan:
        heard = sum(pace.teachers.values())
        teacher_flops = sum(pace.teacher_flops.values())
        stored, writing = self._stored(pace), self.writing.get(phase.name, 0.0)
        saved = pace.rounds * pace.updates * (pace.update - stored) if stored is not None else 0.0
        return StagePlan(
            name=phase.name,
            learner=phase.learner,
            rounds=pace.rounds,
            updates=pace.updates,
            epochs=round(pace.updates / pace.per_epoch, 3),
            batch=pace.batch,
            flops_forward=pace.forward_flops,
            flops_training=(pace.flops - teacher_flops) // pace.batch,
            flops_teachers={name: flops // pace.batch for name, flops in pace.teacher_flops.items()},
            teacher_share_of_flops=teacher_flops / max(pace.flops, 1),
            teacher_share_of_time=heard / pace.update,
            peak_memory_bytes=pace.peak,
            seconds_per_update=pace.update,
            seconds=pace.seconds + writing,
            stored_seconds_per_update=stored,
            stored_seconds=pace.seconds + writing - saved if stored is not None else None,
        )

    def _stored(self, pace: Pace) -> float | None:
        """Seconds of an update that reads what can be stored; None where it hears nobody whose answers can be."""
        names = [name for name in pace.teachers if name in self.labelled]
        if not names:
            return None
        return max(pace.update - sum(pace.teachers[name] - self.labelled[name].reading for name in names), 0.0)

    # several machines

    def _machines(self, count: int) -> MachinesPlan:
        """One machine's part of every update is timed; the exchange of gradients is estimated from their size."""
        session = self.session
        paces: list[Pace] = []
        for phase in session.phases:
            self.listener.message(f"timing {phase.name} on one of {count} machines ...")
            pace = calibrate(session, phase, budget=self.budget, share=count)
            exchange = 2 * (count - 1) / count * pace.exchanged / NETWORK
            paces.append(replace(pace, update=pace.update + exchange, evaluation=pace.evaluation / count))
        stages = [self._stage(phase, pace) for phase, pace in zip(session.phases, paces, strict=True)]
        labelling = sum(self._shared_labelling(store, count) for store in self.stores.values()) if self.stores else None
        return MachinesPlan(
            machines=count,
            training_seconds=sum(stage.seconds for stage in stages),
            stored_training_seconds=self._from_stores(stages),
            labelling_seconds=labelling,
            break_even_epochs=_break_even(paces, stages, labelling),
        )

    def _shared_labelling(self, store: StorePlan, count: int) -> float:
        """Whole shards are divided among the machines."""
        shards = -(-store.examples // store.shard)
        longest = min(-(-shards // count) * store.shard, store.examples)
        found = self.labelled[store.teacher]
        return longest * found.example + found.writing


def _store(name: str, whole: Manifest, found: Labelled) -> StorePlan:
    signals: dict[str, dict[str, Any]] = {}
    for path, signal in whole.signals.items():
        sizes = {
            text: store_size(replace(whole, signals={path: choice}), shard_size=SHARD) for text, choice in choices(signal.shape).items()
        }
        signals[path] = {"shape": list(signal.shape), "bytes": {text: size.total for text, size in sizes.items()}}
    seconds = whole.examples * found.example + found.writing
    return StorePlan(name, whole.examples, store_size(whole, shard_size=SHARD).total, signals, seconds)


def _break_even(paces: Sequence[Pace], stages: Sequence[StagePlan], labelling: float | None) -> float | None:
    """Epochs of the student's last stage with a storable teacher whose savings pay for the labelling."""
    pairs = [(pace, stage) for pace, stage in zip(paces, stages, strict=True) if stage.stored_seconds_per_update is not None]
    if not pairs or labelling is None:
        return None
    pace, stage = pairs[-1]
    saved = pace.per_epoch * (stage.seconds_per_update - (stage.stored_seconds_per_update or 0.0))
    return labelling / saved if saved > 0 else None
