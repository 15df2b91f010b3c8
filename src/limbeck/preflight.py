"""Checks a recipe against the real models and data before any weight is read: layer paths, shapes, adapters.

Models are built on the meta device, where tensors have shapes and no contents; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import assemble, mixing
from .assemble import ALONE, Phase
from .config.load import LoadedRecipe
from .config.schema import DataSpec, ModelSpec, TeacherSpec
from .data.load import data_info
from .data.text import load_tokenizer
from .engine.backend import check_precision, check_trackers, pick_device
from .errors import CodeNotAllowed, LimbeckError, NotFetched, Problem, RecipeError, TapError, UnknownName
from .models.base import BuiltModel
from .models.build import build_model, is_local_code
from .models.sources.hf import vocabulary_size
from .objective import Counts, Objective, Term
from .objective.equip import Asked, equip
from .objective.share import signals_of
from .registry import ACTIONS, STEPS
from .taps.tapped import Tapped
from .tasks.base import Task
from .teachers.base import Setting, TeacherRequest
from .teachers.stored import StoredTeacher
from .types import Batch, DataInfo, Mixed, Share, Signals

META = torch.device("meta")
NOTHING = Asked()
EXAMPLES = 2
"""Size of the example batch, whose indices are all that a loss with a memory meets here."""


@dataclass
class Preflight:
    """What the check found."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and what the user should know."""
    inferred: dict[str, Any] = field(default_factory=dict)
    """Values that follow from the models, such as adapters, by dotted key."""
    bytes_needed: int = 0
    """Least space that the run will take on disk."""
    facts: list[str] = field(default_factory=list)
    """What the recipe amounts to, a line each."""
    plan: list[str] = field(default_factory=list)
    """What would be trained, a line a stage."""

    def raise_problems(self) -> None:
        """Raises all problems at once, where there are any."""
        if self.problems:
            raise RecipeError(self.problems)


def preflight(loaded: LoadedRecipe, *, allow_code: bool, device: str | None = None) -> Preflight:
    """Checks a recipe that has passed the static checks."""
    return _Check(loaded, allow_code, device).run()


class _Check:
    def __init__(self, loaded: LoadedRecipe, allow_code: bool, device: str | None) -> None:
        self.loaded, self.recipe, self.allow_code = loaded, assemble.located(loaded), allow_code
        self.device = pick_device(device)
        self.found = Preflight()
        self.own = assemble.teacher_models(self.recipe, allow_code=allow_code)
        self.models: dict[str, BuiltModel] = {}
        self.learners: set[str] = set()
        self.shares: Mapping[str, Share] = {}

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """Turns what goes wrong inside into a problem at `key`."""
        try:
            yield
        except CodeNotAllowed as error:
            self.found.notes.append(f"{key}: {error} It was not checked.")
        except NotFetched as error:
            self.found.notes.append(f"{key}: {error} What depends on it was not checked.")
        except LimbeckError as error:
            self.problem(key, str(error))

    def problem(self, key: str, message: str) -> None:
        self.found.problems.append(self.loaded.problem(key, message.removeprefix(f"{key}: ")))

    def run(self) -> Preflight:
        phases: list[Phase] = []
        task: Task | None = None
        with self.at("task"):
            task = assemble.build_task(self.recipe, allow_code=self.allow_code)
        if task is None:
            return self.found
        with self.at("baseline"):
            phases = assemble.phases(self.recipe, task, allow_code=self.allow_code)
        info = self._data(task)
        task = task.on(info) if info is not None else task
        self._training(phases, task)
        # A teacher that only lends its features may have been trained for other classes; who learns must answer for these.
        peers = {peer for phase in phases for peer in phase.peers}
        self.learners = ({phase.learner for phase in phases} - set(self.recipe.models)) | peers
        if info is None:
            return self.found
        self.shares = info.shares
        self._models(info, task)
        self._vocabularies(info)
        for phase in phases:
            if self._can_learn(phase):
                for member in phase.members:
                    self._member(phase, member, task, info)
        self._teachers_know_something(phases)
        self.found.plan = [_line(phase) for phase in phases]
        return self.found

    def _training(self, phases: list[Phase], task: Task) -> None:
        with self.at("track"):
            check_trackers(self.recipe.track)
        for phase in phases:
            if phase.learner == ALONE:
                continue
            prefix = f"{phase.key}.train" if phase.key else "train"
            with self.at(f"{prefix}.precision"):
                check_precision(phase.train.precision, self.device)
                if phase.train.precision != self.recipe.train.precision and "fp16" in (phase.train.precision, self.recipe.train.precision):
                    raise LimbeckError("fp16 scales the loss for the whole run; all stages must use it or none.")
            with self.at(f"{prefix}.step"):
                STEPS.get(phase.train.step, allow_code=self.allow_code)
            if phase.between is not None:
                with self.at(f"{phase.key}.between"):
                    ACTIONS.get(phase.between, allow_code=self.allow_code)
            if phase.train.accumulate > phase.train.batch_size:
                text = f"expected at most batch_size ({phase.train.batch_size}), found {phase.train.accumulate}"
                self.problem(f"{prefix}.accumulate", f"{text}: every forward pass needs an example.")
            monitor = phase.train.monitor
            if monitor is not None and monitor not in task.better:
                known = ", ".join(task.better)
                self.problem(f"{prefix}.monitor", f"expected a metric of {self.recipe.task} ({known}), found {monitor!r}.")

    def _data(self, task: Task) -> DataInfo | None:
        info: DataInfo | None = None
        specs: dict[str, DataSpec] = {"data": self.recipe.data}
        specs |= {f"stages.{name}.data": stage.data for name, stage in self.recipe.stages.items() if stage.data is not None}
        seen: list[DataSpec] = []
        for key, spec in specs.items():
            if spec in seen:
                continue
            seen.append(spec)
            where = f"{key}.source" if key == "data" else key
            if _remote(spec):
                self.found.notes.append(
                    f"{where}: {spec.source} is not on this machine; the data and what depends on them were not checked."
                )
                continue
            with self.at(where):
                request = assemble.data_request(spec, self.recipe)
                own = data_info(request, kind=task.data_kind, labels=task.labels, allow_code=self.allow_code)
                if key == "data":
                    info = own
        return info

    def _models(self, info: DataInfo, task: Task) -> None:
        specs: dict[str, tuple[str, ModelSpec]] = {"student": ("student", self.recipe.student)}
        for name, spec in self.own.items():
            specs[name] = ("teacher" if spec is self.recipe.teacher else f"teachers.{name}", spec)
        for name, spec in self.recipe.models.items():
            specs[name] = (f"models.{name}", spec)
        for name, (key, spec) in specs.items():
            built = self._build(key, spec, info)
            if built is not None:
                before = len(self.found.problems)
                if name not in self.recipe.models or name in self.learners:
                    self._head(key, name, built, task, info)
                if len(self.found.problems) == before:  # what cannot run at all is not asked about its layers
                    self.models[name] = built
        weights = [sum(p.numel() * 4 for p in built.module.parameters()) for built in self.models.values()]
        self.found.bytes_needed = 6 * sum(weights) + 2**20

    def _build(self, key: str, spec: ModelSpec, info: DataInfo) -> BuiltModel | None:
        with self.at(f"{key}.model"), META:
            built = build_model(assemble.model_request(spec), info, allow_code=self.allow_code, load=False)
            count = sum(p.numel() for p in built.module.parameters())
            self.found.facts.append(f"{key}: {spec.model}, {count:,} parameters")
            return built
        return None

    def _head(self, key: str, name: str, built: BuiltModel, task: Task, info: DataInfo) -> None:
        with self.at(f"{key}.model"):
            signals = self._signals(key, built.module, built, task, info)
            learns = name == "student" or name in self.learners
            if learns and signals is not None and signals.logits is not None:
                task.check_head(signals.logits, info, model=name)

    def _signals(self, key: str, run: Any, built: BuiltModel, task: Task, info: DataInfo, asked: Asked = NOTHING) -> Signals | None:
        """Signals on the meta device; None, with a note, where the model cannot be traced there."""
        built.module.eval()

        def plain(model: Any, batch: Batch) -> Signals:
            return task.call(model, built.normalization, batch)

        try:
            with torch.no_grad():
                return equip(plain, built.module, asked)(run, task.example(info.shown(built.request.view)))
        except LimbeckError:
            raise
        except Exception as error:  # any model's own code may fail on a device without contents
            first = str(error).strip().split("\n")[0].rstrip(".")
            text = f"{built.request.model} cannot take inputs of shape {info.shown(built.request.view).input_shape}: {first}"
            told = isinstance(error, (RuntimeError, ValueError, AssertionError)) and not isinstance(error, NotImplementedError)
            if told and first and "meta" not in first.lower():
                raise LimbeckError(text) from None
            note = f"{key}: {text}; its layers were checked by name only."
            if note not in self.found.notes:
                self.found.notes.append(note)
            return None

    def _vocabularies(self, info: DataInfo) -> None:
        """A tokenizer on this machine can be read, and every model knows all its tokens."""
        reference = assemble.data_request(self.recipe.data, self.recipe).tokenizer
        if info.kind != "text" or reference is None or not Path(reference).is_dir():
            return
        size = 0
        with self.at("data.tokenizer"):
            size = len(load_tokenizer(reference))
        for name, built in self.models.items():
            known = vocabulary_size(built.module)
            if known is not None and known < size:
                key = name if name in ("student", "teacher") else f"teachers.{name}"
                text = f"{built.request.model} knows {known:,} tokens, the tokenizer {reference} has {size:,}. All models of a recipe "
                text += "read the same tokens: choose models of one vocabulary, and its tokenizer with data.tokenizer."
                self.problem(f"{key}.model", text)

    def _can_learn(self, phase: Phase) -> bool:
        """Whether the models of all who learn in a phase are there."""
        stem = f"{phase.key}.peers" if phase.key else "peers"
        for peer in phase.peers:
            if phase.teacher is not None and peer == "teacher":
                self.problem(f"{stem}.{peer}", "a teacher that only this stage has cannot learn in it; name it under `models`.")
            spec = assemble.teacher_specs(self.recipe).get(peer)
            if spec is not None and peer not in self.own and peer not in self.recipe.models:
                self.problem(f"{stem}.{peer}", f"a teacher of kind {spec.kind!r} has no model of its own, so it cannot learn.")
        return all(name in self.models for name in ("student" if phase.learner == ALONE else phase.learner, *phase.peers))

    def _member(self, phase: Phase, member: str, task: Task, info: DataInfo) -> None:
        """Someone who learns in a phase: the terms against the models, each at its own place."""
        prefix = f"{phase.key}." if phase.key else ""
        if member in phase.peers and phase.peers[member].objective is not None:
            prefix = f"{prefix}peers.{member}."
        learner = self.models["student" if member == ALONE else member]
        if member == phase.learner:
            self._trainable(phase, learner.module)
        terms: list[Term] = []
        with self.at(f"{prefix}objective"):
            terms = self._terms(phase, member, prefix)
        if member == ALONE or not terms:
            return
        names = list(dict.fromkeys(term.source for term in terms if term.loss.needs.teacher))
        self._composed(prefix, phase, terms, names, info)
        signals: dict[str, Signals] = {}
        for name in names:
            with self.at("teacher" if name == "teacher" else f"teachers.{name}"):
                signals |= self._spoken(phase, name, Objective(terms), info)
        teachers = {name: self._teacher(phase, name, info) for name in names if name not in signals}
        complete = True
        for term in terms:
            place = f"{prefix}objective.{term.part_of or term.label}"
            complete &= self._paths(place, term, learner, teachers.get(term.source), task, info)
            complete &= self._asked(place, term, learner, teachers.get(term.source), task, info)
        if not complete or any(teacher is None for teacher in teachers.values()):
            return
        objective = Objective(terms)
        mine = self._tapped(f"{prefix}objective", learner, objective.student_taps(), task, info, asked=objective.asked())
        for name, teacher in teachers.items():
            with self.at(f"{phase.key}.teacher.model" if phase.teacher is not None and name == "teacher" else f"{prefix}objective"):
                asked, taps = objective.asked(name), objective.teacher_taps(name)
                said = self._tapped(f"{prefix}objective", teacher, taps, task, info, asked=asked) if teacher else None
                signals |= {name: said} if said is not None else {}
        if mine is None or len(signals) != len(names):
            return
        self._adapters(phase, prefix, terms, mine, signals, task.example(info).labels)

    def _composed(self, prefix: str, phase: Phase, terms: list[Term], names: list[str], info: DataInfo) -> None:
        with self.at(f"{prefix}data.mix"):
            stored = mixing.stored_views(phase, assemble.teacher_specs(self.recipe), names)
            for key, message in mixing.problems(phase, terms, stored, info, allow_code=self.allow_code):
                self.problem(f"{prefix}{key}", message)

    def _terms(self, phase: Phase, member: str, prefix: str) -> list[Term]:
        """The terms of a member that can be built; the others are problems at their own places."""
        good = {}
        for label, spec in assemble.objective_of(phase, member).items():
            with self.at(f"{prefix}objective.{label}"):
                assemble.build_term(label, spec, allow_code=self.allow_code)
                good[label] = spec
        if member in phase.peers:
            peers = {**phase.peers, member: phase.peers[member].model_copy(update={"objective": good})}
            return assemble.member_terms(replace(phase, peers=peers), member, allow_code=self.allow_code, shares=self.shares)
        return assemble.member_terms(replace(phase, objective=good), member, allow_code=self.allow_code, shares=self.shares)

    def _adapters(
        self, phase: Phase, prefix: str, terms: list[Term], mine: Signals, signals: Mapping[str, Signals], labels: Tensor | None
    ) -> None:
        """Sets up and evaluates each term alone, so that every term that does not fit is reported at its own place.

        What was found is inferred for the recipe, but for terms that several members share: each has an adapter of its own.
        """
        for term in terms:
            place = f"{prefix}objective.{term.part_of or term.label}"
            if not self._targets(f"{place}.targets", term, mine, signals.get(term.source)):
                continue
            with self.at(place), META:
                objective = Objective([term])
                try:
                    objective.allocate(EXAMPLES)
                    made = objective.setup(mine, signals)
                except LimbeckError:
                    raise
                except Exception as error:  # a loss of the user's own may look at contents, of which there are none here
                    text = str(error).strip().split("\n")[0].rstrip(".")
                    self.found.notes.append(f"{place}: its setup needs more than shapes, so it was not checked: {text}.")
                    continue
                for label, descriptions in made.items():
                    if not phase.peers:
                        self.found.inferred[f"{prefix}objective.{label}.adapter.kind"] = descriptions[0]["kind"]
                    self.found.facts += [f"{prefix}objective.{label}: adapter {description}" for description in descriptions]
                self._same_classes(term, mine, signals)
                _evaluate(objective, mine, signals, labels, mixing.example(phase, labels))

    def _targets(self, key: str, term: Term, mine: Signals, theirs: Signals | None) -> bool:
        """Whether the targets of a term find what they change among what its loss reads."""
        before = len(self.found.problems)
        absent: Any = None
        pair = mine, theirs if theirs is not None and term.loss.needs.teacher else Signals()
        if not term.reads_logits:
            pair = replace(pair[0], logits=absent), replace(pair[1], logits=absent)
        with self.at(key), META:
            if term.share is not None:
                pair = signals_of(term.share, pair[0]), signals_of(term.share, pair[1])
            for target in term.targets:
                pair = target(*pair)
        return len(self.found.problems) == before

    def _same_classes(self, term: Term, mine: Signals, signals: Mapping[str, Signals]) -> None:
        needs = term.loss.needs
        if not (needs.teacher and needs.logits) or term.student:
            return
        theirs = signals[term.source].logits
        if term.share is not None:  # compared where their outputs are chosen
            return
        if mine.logits is not None and theirs is not None and mine.logits.shape != theirs.shape:
            raise LimbeckError(
                f"the student gives {mine.logits.shape[-1]} outputs, {term.source} gives {theirs.shape[-1]}; "
                "a loss on logits needs the same classes on both sides."
            )

    def _spoken(self, phase: Phase, name: str, objective: Objective, info: DataInfo) -> dict[str, Signals]:
        """What a teacher without a model of its own says, on the meta device; empty for all others."""
        spec = phase.teacher if phase.teacher is not None and name == "teacher" else assemble.teacher_specs(self.recipe).get(name)
        if spec is None or name in phase.members or assemble.teacher_kind(spec, allow_code=self.allow_code).source in ("own", "learner"):
            return {}
        teacher = assemble.build_teacher(name, spec, allow_code=self.allow_code)
        taps, logits = objective.teacher_taps(name), objective.needs_teacher_logits(name)
        if isinstance(teacher, StoredTeacher):
            teacher = replace(teacher, verify=False)
            teacher.open(Setting(TeacherRequest(taps, logits, META), _no_call))
            shapes = teacher.reader.shapes()
            said = {key: torch.empty((2, *shape), device="meta") for key, shape in shapes.items()}
            self.found.facts.append(f"{name}: answers stored in {teacher.path}, {len(teacher.reader.manifest.shards)} shards")
            absent: Any = None
            return {name: Signals(said["logits"] if logits else absent, {tap: said[tap] for tap in taps})}
        members = list((spec.model_extra or {}).get("members", ()))
        known = [other for other in assemble.teacher_specs(self.recipe) if other != name]
        for member in members:
            if member not in known:
                raise UnknownName("teacher", member, known, "`members` are names under `teachers`, or `teacher`.")
        if len(members) < 2:
            raise LimbeckError("an ensemble needs two or more members; name them with `members`.")
        if taps:
            text = f"an ensemble has no layers, and a term reads {', '.join(map(repr, taps))} of it."
            raise LimbeckError(f"{text} Name one of its members with `from`.")
        return {name: Signals(torch.empty(2, info.num_outputs, device="meta"))}

    def _teacher(self, phase: Phase, name: str, info: DataInfo) -> BuiltModel | None:
        spec = assemble.teacher_specs(self.recipe).get(name)
        if name in phase.members:
            return self.models.get(name)
        if spec is not None and assemble.teacher_kind(spec, allow_code=self.allow_code).source == "learner":
            return self.models.get(phase.learner)
        if phase.teacher is not None and name == "teacher":
            return self._build(f"{phase.key}.teacher", phase.teacher, info)
        return self.models.get(name)

    def _paths(self, key: str, term: Term, learner: BuiltModel, teacher: BuiltModel | None, task: Task, info: DataInfo) -> bool:
        fine = True
        for side, built, taps in (("student", learner, term.student), ("teacher", teacher, term.teacher)):
            if built is None or not taps:
                continue
            before = len(self.found.problems)
            place = f"{key}.{side}" if side == "student" or term.teacher != term.student else f"{key}.student"
            with self.at(place):
                self._tapped(place, built, list(taps), task, info, what=side)
            fine &= len(self.found.problems) == before
        return fine

    def _asked(self, key: str, term: Term, learner: BuiltModel, teacher: BuiltModel | None, task: Task, info: DataInfo) -> bool:
        """Whether the models and the data give what a term asks for beyond logits and layers."""
        objective = Objective([term])
        before = len(self.found.problems)
        for side, built, asked in (("student", learner, objective.asked()), ("teacher", teacher, objective.asked(term.source))):
            if built is None or asked == NOTHING:
                continue
            with self.at(key):
                try:
                    self._signals(key, built.module, built, task, info, asked)
                except TapError as error:
                    raise TapError(f"{side} {built.request.model}: {error}") from None
            if len(self.found.problems) > before:  # the other model would often say the same
                break
        return len(self.found.problems) == before

    def _tapped(
        self, key: str, built: BuiltModel, taps: list[str], task: Task, info: DataInfo, what: str = "", asked: Asked = NOTHING
    ) -> Signals | None:
        if not taps:
            return self._signals(key, built.module, built, task, info, asked)
        try:
            tapped = Tapped(built.module, taps)
        except LimbeckError as error:
            raise LimbeckError(f"{what + ' ' if what else ''}{built.request.model}: {error}") from None
        try:
            return self._signals(key, tapped, built, task, info, asked)
        finally:
            tapped.close()

    def _trainable(self, phase: Phase, module: nn.Module) -> None:
        if phase.trainable:
            from .engine.learner import Learner

            with self.at(f"{phase.key}.trainable"):
                learner = Learner(module, Objective([]), partial(_no_call))
                learner.train_only(phase.trainable)
                learner.train_only(())

    def _teachers_know_something(self, phases: list[Phase]) -> None:
        """A teacher with random weights that no stage trains is a mistake, unless the recipe says so."""
        trained: set[str] = set()
        for phase in phases:
            for term in phase.objective.values():
                name = term.from_
                own = phase.teacher is not None and name == "teacher"
                spec = phase.teacher if own else assemble.teacher_specs(self.recipe).get(name)
                own_model = (own or name in self.own) and name not in phase.peers
                if isinstance(spec, TeacherSpec) and own_model and self._knows_nothing(spec) and not (name in trained and not own):
                    key = f"{phase.key}.teacher" if own else ("teacher" if name == "teacher" else f"teachers.{name}")
                    text = (
                        f"{spec.model} has no weights and no earlier stage trains it, so it has nothing to teach. "
                        f"Give `weights`, add a stage with `learner: {name}`, or write `weights: random` if that is what you want."
                    )
                    problem = self.loaded.problem(key, text)
                    if problem not in self.found.problems and self._uses_teacher(term):
                        self.found.problems.append(problem)
            trained.update(phase.members)

    def _uses_teacher(self, term: Any) -> bool:
        try:
            return assemble.build_term("term", term, allow_code=self.allow_code).loss.needs.teacher
        except LimbeckError:
            return False

    @staticmethod
    def _knows_nothing(spec: TeacherSpec) -> bool:
        return spec.weights is None and not is_local_code(spec.model)


def _line(phase: Phase) -> str:
    train = phase.train
    length = f"{train.steps} updates" if train.steps else f"{train.epochs} epochs"
    terms = ", ".join(f"{label} ({term.loss})" for label, term in phase.objective.items())
    rounds = f", {phase.repeat} rounds" if phase.repeat > 1 else ""
    peers = f" with {' and '.join(phase.peers)}" if phase.peers else ""
    return f"stage {phase.name}: trains {phase.learner}{peers} for {length}{rounds} on {terms}"


def _evaluate(objective: Objective, mine: Signals, signals: Mapping[str, Signals], labels: Tensor | None, mixed: Mixed | None) -> None:
    """Runs an objective on the meta device, for the shapes that only the losses themselves can check."""
    count = 2.0
    try:
        with torch.no_grad():
            objective(mine, signals, labels, Counts(count, count), None, mixed)
    except LimbeckError:
        raise
    except Exception:  # a loss may look at contents, of which there are none here; then the first update shows it
        return


def _no_call(model: Any, batch: Any) -> Any:
    raise LimbeckError("this learner is only looked at.")


def _remote(spec: DataSpec) -> bool:
    """Whether a source would have to be fetched."""
    scheme, _, rest = spec.source.partition(":")
    return scheme == "hf" and not Path(rest).exists()
