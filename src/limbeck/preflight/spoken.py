"""What teachers without a model of their own say: stored answers and ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..assemble import Phase, build_teacher, teacher_kind, teacher_specs
from ..belonging import check_named
from ..config.model_schema import TeacherSpec
from ..errors import LimbeckError, UnknownName
from ..objective import Objective, Term
from ..objective.forms import check_form, check_speech
from ..store.token_reader import TokenReader
from ..teachers.base import Setting, TeacherRequest
from ..teachers.remote import RemoteTeacher
from ..teachers.stored import StoredTeacher
from ..types import DataInfo, Signals
from .found import Desk
from .models import META


def spoken(desk: Desk, phase: Phase, name: str, objective: Objective, info: DataInfo) -> dict[str, Signals]:
    """What a teacher without a model of its own says, on the meta device; empty for all others."""
    spec = phase.teacher if phase.teacher is not None and name == "teacher" else teacher_specs(desk.recipe).get(name)
    if spec is None or name in phase.members or teacher_kind(spec, allow_code=desk.allow_code).source in ("own", "learner"):
        return {}
    teacher = build_teacher(name, spec, allow_code=desk.allow_code)
    taps, logits = objective.teacher_taps(name), objective.needs_teacher_logits(name)
    if isinstance(teacher, StoredTeacher):
        teacher = replace(teacher, verify=False)
        teacher.open(Setting(TeacherRequest(taps, logits, META), no_call))
        check_named(teacher.reader, phase, desk.recipe, name)
        if isinstance(teacher.reader, TokenReader):
            teacher.reader.check_vocabulary(info.num_outputs)
            desk.found.facts.append(f"{name}: tokens of {teacher.reader.manifest.examples:,} documents stored in {teacher.path}")
            return {name: Signals(tokens=teacher.reader.meta(2 * info.input_shape[0]))}
        shapes = teacher.reader.shapes()
        said = {key: torch.empty((2, *shape), device="meta") for key, shape in shapes.items()}
        desk.found.facts.append(f"{name}: answers stored in {teacher.path}, {len(teacher.reader.manifest.shards)} shards")
        absent: Any = None
        return {name: Signals(said["logits"] if logits else absent, {tap: said[tap] for tap in taps})}
    if isinstance(teacher, RemoteTeacher):
        if teacher.protocol == "chat":
            desk.found.facts.append(f"{name}: {teacher.served} on {teacher.url}, which writes texts")
            return {name: Signals()}
        words = info.num_outputs if info.labels == "token" else None
        teacher.open(Setting(TeacherRequest(taps, logits, META), no_call, vocabulary=words))
        desk.found.facts.append(f"{name}: {teacher.served} on {teacher.url}, {teacher.k} tokens a row")
        return {name: Signals(tokens=teacher.meta(2 * info.input_shape[0]))}
    _check_members(desk, spec, name, taps, info)
    return {name: Signals(torch.empty(2, info.num_outputs, device="meta"))}


def _check_members(desk: Desk, spec: TeacherSpec, name: str, taps: Sequence[str], info: DataInfo) -> None:
    """Whether an ensemble has members that can be combined."""
    members = list((spec.model_extra or {}).get("members", ()))
    known = [other for other in teacher_specs(desk.recipe) if other != name]
    for member in members:
        if member not in known:
            raise UnknownName("teacher", member, known, "`members` are names under `teachers`, or `teacher`.")
    if info.labels == "token":
        raise LimbeckError(
            "an ensemble combines logits, and a language model's are never held; let a term listen to each member (`from`), or store the "
            "members' answers."
        )
    if len(members) < 2:
        raise LimbeckError("an ensemble needs two or more members; name them with `members`.")
    if taps:
        text = f"an ensemble has no layers, and a term reads {', '.join(map(repr, taps))} of it."
        raise LimbeckError(f"{text} Name one of its members with `from`.")


def fitting(desk: Desk, prefix: str, terms: list[Term], signals: Mapping[str, Signals], info: DataInfo) -> list[Term]:
    """The terms whose loss makes sense of how their teacher speaks of tokens; the others are problems at their places."""
    if info.labels != "token":
        return terms
    found: list[Term] = []
    for term in terms:
        said = signals.get(term.source) if term.loss.needs.teacher else None
        with desk.at(f"{prefix}objective.{term.part_of or term.label}"):
            if said is not None:
                check_form(term.label, term.loss, term.source, said)
                if said.tokens is None and said.logits is None and not said.features:
                    check_speech(term.label, term.source)
            found.append(term)
    return found


def no_call(model: Any, batch: Any) -> Any:
    """Stands for a call that never happens, as nothing is asked here."""
    raise LimbeckError("this learner is only looked at.")
