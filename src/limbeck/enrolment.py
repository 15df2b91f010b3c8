"""Those who learn in a stage: each member's model, objective, adapters and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from . import assemble
from .assemble import Phase
from .config.model_schema import TeacherSpec
from .config.schema import PlayerSpec, Recipe
from .config.train_schema import OptimizerSpec
from .data.base import Examples
from .engine.backend import Backend
from .engine.cohort import Cohort
from .engine.learner import Learner
from .engine.optim import LRControl, LRPlan, build_optimizer
from .engine.steps.base import Player
from .errors import LimbeckError
from .models.base import BuiltModel
from .objective import Objective
from .objective.equip import Asked, Call, equip
from .teachers.base import Teacher
from .types import Share


@dataclass
class Enrolment:
    """Makes the members of a stage: the learner, and the peers that learn in the same updates.

    Attributes:
        models: every model of the run.
        call: how the model of that name is run.
    """

    phase: Phase
    recipe: Recipe
    models: Mapping[str, BuiltModel]
    call: Callable[[str], Call]
    backend: Backend
    allow_code: bool
    teacher_model: Callable[[str, TeacherSpec], BuiltModel]
    """The model of a teacher that has one of its own."""
    shares: Mapping[str, Share] = field(default_factory=dict)
    """What each of several data sets has of the outputs."""
    objectives: dict[str, Objective] = field(default_factory=dict)
    learners: dict[str, Learner] = field(default_factory=dict)
    cohort: Cohort | None = None

    def __post_init__(self) -> None:
        layers = assemble.Layers(
            self.recipe,
            self.phase,
            self.allow_code,
            lambda name: self.models[name].module,
            lambda name, spec: self.teacher_model(name, spec).module,
        )
        for name in self.phase.members:
            terms = assemble.member_terms(self.phase, name, allow_code=self.allow_code, shares=self.shares)
            self.objectives[name] = Objective(layers.written_out(terms, name))

    def demand(self) -> Objective:
        """All that the members ask of teachers, as one objective."""
        if not self.phase.peers:
            return self.objectives[self.phase.learner]
        terms = [(name, term) for name, own in self.objectives.items() for term in own.terms.values() if not term.peer]
        return Objective([replace(term, label=f"{name}/{term.label}") for name, term in terms if term.loss.needs.teacher])

    def model(self, name: str) -> nn.Module:
        """A member's model, where it is to be trained."""
        memory: dict[str, Any] = {"memory_format": torch.channels_last} if self.phase.train.channels_last else {}
        return self.models[name].module.to(self.backend.device, **memory)

    def enrol(self, teachers: Mapping[str, Teacher], examples: Examples) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Makes the learners with their adapters, from one batch and without moving the statistics of the models.

        Returns:
            By member and term, the description of each adapter that was made.
        """
        for name, objective in self.objectives.items():
            model = self.model(name)
            others = [other for other, _ in self.objectives.items() if other != name]
            call = equip(self.call(name), model, self._asked(name, others))
            self.learners[name] = Learner(
                model,
                objective,
                call,
                compile_model=self.phase.train.compile,
                taps=[tap for other in others for tap in self.objectives[other].teacher_taps(name)],
                logits=any(self.objectives[other].needs_teacher_logits(name) for other in others),
                frozen=self.models[name].frozen,
            )
        made = self._set_up(teachers, examples)
        for name, learner in self.learners.items():
            learner.to(self.backend.device)
            learner.train_only(self.phase.trainable if name == self.phase.learner else ())
        if self.phase.peers:
            self.cohort = Cohort(self.learners)
        return made

    def _asked(self, name: str, others: Sequence[str]) -> Asked:
        """What a member's own terms ask of it, and what the terms of the others do."""
        own = self.objectives[name].asked()
        heard = [self.objectives[other].asked(name) for other in others]
        return replace(own, head=own.head or any(x.head for x in heard), rotations=own.rotations or any(x.rotations for x in heard))

    def _set_up(self, teachers: Mapping[str, Teacher], examples: Examples) -> dict[str, dict[str, list[dict[str, Any]]]]:
        batch = examples.__getitems__(list(range(min(2, len(examples))))).to(self.backend.device)
        for learner in self.learners.values():
            learner.eval()
            learner.objective.allocate(len(examples))
        with torch.no_grad():
            own = {name: learner.signals(batch) for name, learner in self.learners.items()}
            said = {name: teacher.signals(batch) for name, teacher in teachers.items()}
            return {name: learner.objective.setup(own[name], {**said, **own}) for name, learner in self.learners.items()}

    def players(self, rate: LRPlan) -> dict[str, Player]:
        """`learner`, the peers, and every further model of the recipe."""
        players: dict[str, Player] = {}
        for name, learner in self.learners.items():
            key = "learner" if name == self.phase.learner else name
            players[key] = self._player(key, learner, assemble.optimizer_of(self.phase, name, self.recipe), rate)
        # A member that fails is no longer run, so a cohort must always count with parameters that were not used.
        stops = self.cohort is not None or self.learners[self.phase.learner].stops_early
        players["learner"].module = self.backend.prepare(self.cohort or self.learners[self.phase.learner], find_unused=stops)
        for name, spec in self.recipe.models.items():
            module = self.models[name].module
            if name in self.phase.peers:
                continue
            if isinstance(spec, PlayerSpec) and spec.optimizer is not None:
                players[name] = self._player(name, module, spec.optimizer, rate)
                players[name].module = self.backend.prepare(module)
            else:
                players[name] = Player(name, module.to(self.backend.device))
        return players

    def _player(self, name: str, module: nn.Module, spec: OptimizerSpec, rate: LRPlan) -> Player:
        fused = self.backend.precision != "fp16"  # the loss scaler unscales gradients itself
        try:
            optimizer = build_optimizer(spec.name, spec.lr, dict(spec.model_extra or {}), module.parameters(), fused=fused)
        except LimbeckError as error:
            raise type(error)(f"{name}: {error}") if name in self.phase.peers and type(error) is LimbeckError else error from None
        prepared = self.backend.prepare_optimizer(optimizer)
        return Player(name, module, prepared, LRControl(prepared, rate, 1), self.phase.train.clip)
