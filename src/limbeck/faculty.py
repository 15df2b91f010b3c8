"""Opens the teachers that a stage listens to, with those that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from . import assemble
from .assemble import Phase
from .belonging import belongs, documents_of, weights_of
from .config.model_schema import TeacherSpec
from .data.base import Examples
from .engine.backend import DTYPES
from .errors import LimbeckError, UnknownName
from .models.base import BuiltModel
from .objective import Objective
from .objective.equip import Call, equip
from .teachers._once import Once
from .teachers.base import Setting, Teacher, TeacherRequest
from .teachers.stored import StoredTeacher
from .types import DataInfo


@dataclass
class Faculty:
    """What the teachers of a stage are made from.

    Attributes:
        specs: every teacher of the recipe.
        model: gives the model of a teacher that has its own.
        span: updates and epochs of the stage.
        info: the data of the recipe.
        total: sums a tensor over all processes.
        bare: while it lasts, the learner is without its adapters.
        call: how the model of that name is run, on a view of the data other than its own where one is named.
    """

    specs: Mapping[str, TeacherSpec]
    phase: Phase
    objective: Objective
    learner: nn.Module
    learner_name: str
    bare: Callable[[], AbstractContextManager[None]]
    model: Callable[[str, TeacherSpec], BuiltModel]
    call: Callable[[str, str | None], Call]
    device: torch.device
    examples: Examples
    span: tuple[int, int]
    info: DataInfo
    seed: int
    total: Callable[[torch.Tensor], torch.Tensor]
    allow_code: bool
    found: dict[str, Teacher] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)

    def open(self) -> dict[str, Teacher]:
        """Every teacher that a term names, and the members of ensembles, by name; members come first."""
        for name in self.objective.teacher_names():
            self._teacher(name)
        return self.found

    def _teacher(self, name: str) -> Teacher:
        if name in self.found:
            return self.found[name]
        if name in self._open:
            raise LimbeckError(f"teachers.{name}: it is a member of itself, through {' and '.join(map(repr, self._open))}.")
        spec = self._spec(name)
        teacher = assemble.build_teacher(name, spec, allow_code=self.allow_code)
        self._open.append(name)
        names = (spec.model_extra or {}).get("members", ()) if teacher.source == "members" else ()
        members = {member: self._teacher(member) for member in names}
        self._open.pop()
        own = self.model(name, spec) if teacher.source == "own" else None
        module = own.module if own is not None else self.learner if teacher.source == "learner" else None
        call = self.call(self.learner_name if teacher.source == "learner" else name, spec.view) if module is not None else _silent
        call = equip(call, module, self.objective.asked(name)) if module is not None else call
        setting = Setting(
            request=self._request(name, spec),
            call=call,
            module=own.module if own is not None else None,
            learner=self.learner,
            bare=self.bare,
            members=members,
            examples=len(self.examples),
            updates=self.span[0],
            epochs=self.span[1],
            vocabulary=self.info.num_outputs if self.info.labels == "token" else None,
            total=self.total,
            view=spec.view,
        )
        teacher.open(setting)
        if isinstance(teacher, StoredTeacher):
            weights = weights_of(spec, partial(self.model, name, spec))
            teacher.place(belongs(teacher.reader, self.phase, self.examples, spec.view, weights))
            teacher.show(cache(partial(documents_of, self.examples, teacher.reader.manifest, spec.view)))
        self.found[name] = Once(teacher=teacher) if self._listeners(name) > 1 else teacher
        return self.found[name]

    def _listeners(self, name: str) -> int:
        """How many ask a teacher about every batch: the terms, and each ensemble that it is a member of."""
        ensembles = sum(name in (spec.model_extra or {}).get("members", ()) for spec in self.specs.values())
        return ensembles + (name in self.objective.teacher_names())

    def _spec(self, name: str) -> TeacherSpec:
        if self.phase.teacher is not None and name == "teacher":
            return self.phase.teacher
        if name not in self.specs:
            raise UnknownName("teacher", name, self.specs)
        return self.specs[name]

    def _request(self, name: str, spec: TeacherSpec) -> TeacherRequest:
        """What is read of a teacher: what terms read, and the logits where an ensemble asks for them."""
        heard = name in self.objective.teacher_names()
        precision = spec.precision if spec.precision is not None else self.phase.train.precision
        return TeacherRequest(
            taps=self.objective.teacher_taps(name) if heard else (),
            logits=bool(self._open) or not heard or self.objective.needs_teacher_logits(name) or self._is_member(name),
            device=self.device,
            precision=DTYPES[precision],
            channels_last=spec.channels_last,
            compile=spec.compile,
            fold=spec.fold,
        )

    def _is_member(self, name: str) -> bool:
        return any(name in (spec.model_extra or {}).get("members", ()) for spec in self.specs.values())


def _silent(model: Any, batch: Any) -> Any:
    raise LimbeckError("this teacher has no model.")


def replay_of(teachers: Mapping[str, Teacher]) -> tuple[int, int] | None:
    """Seed and number of the stored augmentations that training must repeat; None where nothing is stored.

    Raises:
        LimbeckError: where two stores hold different ones.
    """
    found = {name: teacher.replay for name, teacher in teachers.items() if teacher.replay is not None}
    if len(set(found.values())) > 1:
        names = " and ".join(map(repr, found))
        raise LimbeckError(f"the stores of {names} were made with different augmentations, so they cannot be read together.")
    return next(iter(found.values()), None)
