"""Who learns in a stage: their layers, their teachers and their terms."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from .. import assemble, mixing
from ..assemble import ALONE, Phase
from ..config.model_schema import TeacherSpec
from ..config.term_schema import Alike, TermSpec
from ..engine.learner import Learner
from ..errors import ModelError, NotFetched, TapError
from ..likeness import check_alike
from ..models.base import BuiltModel
from ..models.lora import without_adapters
from ..objective import Objective, Term
from ..objective.layers import told
from ..starting import CONTINUE, FRESH, begin_as, gather
from ..tasks.base import Task
from ..teachers.adapter_off import AdapterOffTeacher
from ..types import DataInfo, Signals
from .found import Desk
from .models import NOTHING, Models
from .spoken import fitting, no_call, spoken
from .terms import try_terms


class Learning:
    """Everyone who learns in a stage, and whom they listen to."""

    def __init__(self, desk: Desk, models: Models, phase: Phase, task: Task, info: DataInfo) -> None:
        self.desk, self.models, self.phase, self.task, self.info = desk, models, phase, task, info
        self._own: BuiltModel | None = None

    def check(self) -> None:
        """Tries the objective of every member."""
        if self._can_learn():
            self._start()
            for member in self.phase.members:
                self._member(member)

    def _start(self) -> None:
        """Whether the learner can begin with the weights of the model that the stage names."""
        self._sources()
        start = self.phase.start
        if start in (CONTINUE, FRESH) or self.phase.learner == ALONE:
            return
        with self.desk.at(f"{self.phase.key}.start"):
            if start not in self.models.built:
                raise ModelError(f"{start!r} has no model of its own here, so nothing can begin with its weights.")
            begin_as(self.phase, self.models.built)

    def _sources(self) -> None:
        """Whether what a model is made of is there."""
        learner = self.models.built["student" if self.phase.learner == ALONE else self.phase.learner]
        wanted = learner.request.sources
        if wanted is None or self.phase.learner == ALONE:
            return
        with self.desk.at("student.sources"):
            missing = [name for name in wanted.models if name not in self.models.built or name == self.phase.learner]
            if missing or len(wanted.models) < 2:
                names = ", ".join(name for name in self.models.built if name != self.phase.learner) or "none"
                raise ModelError(f"expected two or more models of the recipe ({names}), found {', '.join(wanted.models) or 'none'}.")
            gather(learner, self.models.built)

    def _can_learn(self) -> bool:
        """Whether the models of all who learn in a phase are there."""
        stem = f"{self.phase.key}.peers" if self.phase.key else "peers"
        for peer in self.phase.peers:
            if self.phase.teacher is not None and peer == "teacher":
                self.desk.problem(f"{stem}.{peer}", "a teacher that only this stage has cannot learn in it; name it under `models`.")
            spec = assemble.teacher_specs(self.desk.recipe).get(peer)
            if spec is not None and peer not in self.desk.own and peer not in self.desk.recipe.models:
                self.desk.problem(f"{stem}.{peer}", f"a teacher of kind {spec.kind!r} has no model of its own, so it cannot learn.")
        return all(
            name in self.models.built for name in ("student" if self.phase.learner == ALONE else self.phase.learner, *self.phase.peers)
        )

    def _member(self, member: str) -> None:
        """Someone who learns in a phase: the terms against the models, each at its own place."""
        prefix = f"{self.phase.key}." if self.phase.key else ""
        if member in self.phase.peers and self.phase.peers[member].objective is not None:
            prefix = f"{prefix}peers.{member}."
        learner = self.models.built["student" if member == ALONE else member]
        if member == self.phase.learner:
            self._trainable(learner)
        terms: list[Term] = []
        with self.desk.at(f"{prefix}objective"):
            terms = self._terms(member, prefix)
        if member == ALONE:
            return
        terms = self._named(terms, prefix, member)
        if not terms:
            return
        names = list(dict.fromkeys(term.source for term in terms if term.loss.needs.teacher))
        self._composed(prefix, terms, names)
        signals: dict[str, Signals] = {}
        for name in names:
            with self.desk.at("teacher" if name == "teacher" else f"teachers.{name}"):
                signals |= spoken(self.desk, self.phase, name, Objective(terms), self.info)
        teachers = {name: self._teacher(name) for name in names if name not in signals}
        complete = all(self._bare(name, teacher) for name, teacher in teachers.items())
        for term in terms:
            place = f"{prefix}objective.{term.part_of or term.label}"
            complete &= self._paths(place, term, learner, teachers.get(term.source))
            complete &= self._asked(place, term, learner, teachers.get(term.source))
        if not complete or any(teacher is None for teacher in teachers.values()):
            return
        objective = Objective(terms)
        mine = self.models.tapped(f"{prefix}objective", learner, objective.student_taps(), asked=objective.asked())
        for name, teacher in teachers.items():
            with self.desk.at(
                f"{self.phase.key}.teacher.model" if self.phase.teacher is not None and name == "teacher" else f"{prefix}objective"
            ):
                asked, taps = objective.asked(name), objective.teacher_taps(name)
                said = self.models.tapped(f"{prefix}objective", teacher, taps, asked=asked) if teacher else None
                signals |= {name: said} if said is not None else {}
        terms = fitting(self.desk, prefix, terms, signals, self.info)
        if mine is None or len(signals) != len(names) or not terms:
            return
        try_terms(self.desk, self.phase, prefix, terms, mine, signals, self.task.example(self.info).labels, self.info)

    def _trainable(self, built: BuiltModel) -> None:
        if self.phase.trainable:
            with self.desk.at(f"{self.phase.key}.trainable"):
                learner = Learner(built.module, Objective([]), partial(no_call), frozen=built.frozen)
                learner.train_only(self.phase.trainable)
                learner.train_only(())

    def _composed(self, prefix: str, terms: list[Term], names: list[str]) -> None:
        with self.desk.at(f"{prefix}data.mix"):
            stored = mixing.stored_views(self.phase, assemble.teacher_specs(self.desk.recipe), names)
            for key, message in mixing.problems(self.phase, terms, stored, self.info, allow_code=self.desk.allow_code):
                self.desk.problem(f"{prefix}{key}", message)

    def _terms(self, member: str, prefix: str) -> list[Term]:
        """The terms of a member that can be built; the others are problems at their own places."""
        good = {}
        for label, spec in assemble.objective_of(self.phase, member).items():
            with self.desk.at(f"{prefix}objective.{label}"):
                assemble.build_term(label, spec, allow_code=self.desk.allow_code)
                self._alike(spec)
                good[label] = spec
        if member in self.phase.peers:
            peers = {**self.phase.peers, member: self.phase.peers[member].model_copy(update={"objective": good})}
            return assemble.member_terms(replace(self.phase, peers=peers), member, allow_code=self.desk.allow_code, shares=self.info.shares)
        return assemble.member_terms(replace(self.phase, objective=good), member, allow_code=self.desk.allow_code, shares=self.info.shares)

    def _alike(self, spec: TermSpec) -> None:
        """Whether the models that a weight is tied to can be compared."""
        if isinstance(spec.weight, Alike):
            there = [(name, self.models.built[name]) for name in spec.weight.alike if name in self.models.built]
            missing = [name for name in spec.weight.alike if name not in self.models.built]
            if missing:
                raise ModelError(f"{missing[0]!r} has no model of its own here, so nothing can be alike to it.")
            check_alike(there[0], there[1])

    def _named(self, terms: list[Term], prefix: str, member: str) -> list[Term]:
        """The terms with every layer named that a star stands for; those whose layers do not fit are problems."""

        def module(name: str, spec: TeacherSpec | None = None) -> nn.Module:
            built = self._teacher(name) if spec is not None else self.models.built[name]
            if built is None:
                raise NotFetched(f"the layers of {name!r} are not known, so those that a star stands for are not.")
            return built.module

        layers = assemble.Layers(self.desk.recipe, self.phase, self.desk.allow_code, module, module)
        found: list[Term] = []
        for term in terms:
            place = f"{prefix}objective.{term.part_of or term.label}"
            with self.desk.at(place):
                found += layers.written_out([term], member)
                fact = told(term, found[-1])
                self.desk.found.facts += [f"{place}: {fact}"] if fact is not None else []
        return found

    def _teacher(self, name: str) -> BuiltModel | None:
        spec = assemble.teacher_specs(self.desk.recipe).get(name)
        if name in self.phase.members:
            return self.models.built.get(name)
        if spec is not None and assemble.teacher_kind(spec, allow_code=self.desk.allow_code).source == "learner":
            return self.models.built.get(self.phase.learner)
        if self.phase.teacher is not None and name == "teacher":
            if self._own is None:
                self._own = self.models.build(f"{self.phase.key}.teacher", self.phase.teacher)
            return self._own
        return self.models.built.get(name)

    def _bare(self, name: str, learner: BuiltModel | None) -> bool:
        """Whether the learner has adapters, where a teacher is the learner without them."""
        own = self.phase.teacher if self.phase.teacher is not None and name == "teacher" else None
        spec = own or assemble.teacher_specs(self.desk.recipe).get(name)
        if spec is None or learner is None or name in self.phase.members:
            return True
        if not self._reads_alike(name, spec, learner):
            return False
        if assemble.teacher_kind(spec, allow_code=self.desk.allow_code) is not AdapterOffTeacher:
            return True
        stage = f"{self.phase.key}.teacher" if own is not None else None
        place = stage or ("teacher" if name == "teacher" else f"teachers.{name}")
        with self.desk.at(place), without_adapters(learner.module, learner.frozen):
            return True
        return False

    def _reads_alike(self, name: str, spec: TeacherSpec, learner: BuiltModel) -> bool:
        """Whether a teacher that is the learner sees a view that is read as the learner reads."""
        own = assemble.teacher_kind(spec, allow_code=self.desk.allow_code).source == "learner"
        if not own or spec.view is None or self.info.language is None:
            return True
        mine, theirs = (self.info.shown(view).language for view in (learner.request.view, spec.view))
        if mine != theirs:
            place = "teacher" if name == "teacher" else f"teachers.{name}"
            text = f"this teacher is the student, which reads {mine}, and the view {spec.view!r} is for {theirs}."
            self.desk.problem(f"{place}.view", text)
        return mine == theirs

    def _paths(self, key: str, term: Term, learner: BuiltModel, teacher: BuiltModel | None) -> bool:
        fine = True
        for side, built, taps in (("student", learner, term.student), ("teacher", teacher, term.teacher)):
            if built is None or not taps:
                continue
            before = len(self.desk.found.problems)
            place = f"{key}.{side}" if side == "student" or term.teacher != term.student else f"{key}.student"
            with self.desk.at(place):
                self.models.tapped(place, built, list(taps), what=side)
            fine &= len(self.desk.found.problems) == before
        return fine

    def _asked(self, key: str, term: Term, learner: BuiltModel, teacher: BuiltModel | None) -> bool:
        """Whether the models and the data give what a term asks for beyond logits and layers."""
        objective = Objective([term])
        before = len(self.desk.found.problems)
        for side, built, asked in (("student", learner, objective.asked()), ("teacher", teacher, objective.asked(term.source))):
            if built is None or asked == NOTHING:
                continue
            with self.desk.at(key):
                try:
                    self.models.signals(key, built, asked)
                except TapError as error:
                    raise TapError(f"{side} {built.request.model}: {error}") from None
            if len(self.desk.found.problems) > before:  # the other model would often say the same
                break
        return len(self.desk.found.problems) == before
