"""What the student was before its last stage: kept for the report of what it gained and forgot, of language models always."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from . import assemble
from .engine import checkpoint
from .engine.evaluation import Collected
from .evaluate.flips import flip_report
from .files import writing
from .session import Session
from .starting import CONTINUE, FRESH
from .teachers.ensemble import surest
from .types import labelled


def path_of(folder: Path) -> Path:
    """Where the weights are kept."""
    return folder / "checkpoints" / "initial.safetensors"


def keep(session: Session, number: int, turn: int) -> None:
    """Called before a round: writes the student's weights down where its last stage begins and it is no beginner.

    Those of a model of tokens are kept in any case, so that its report tells what share of the way to its teacher it went.
    """
    last = max((i for i, phase in enumerate(session.phases) if phase.learner == "student"), default=-1)
    if (number, turn) != (last, 0) or not (_of_tokens(session) or _knows(session, number)) or not session.backend.is_main:
        return
    with writing(path_of(session.folder)) as temporary:
        checkpoint.save_tensors(temporary, session.models["student"].module.state_dict())


def _of_tokens(session: Session) -> bool:
    return session.task.labels == "token"


def _knows(session: Session, number: int) -> bool:
    """Whether the student has learnt something before the given stage and goes on from there."""
    weights = session.recipe.student.weights
    begun = any(done.learner == "student" for done in session.done) or weights not in (None, assemble.RANDOM)
    start = session.phases[number].start
    return start not in (CONTINUE, FRESH) or (begun and start == CONTINUE)


@contextmanager
def as_begun(session: Session) -> Iterator[None]:
    """While it lasts, the student has the weights that it had before its last stage."""
    module = session.models["student"].module
    now = {name: value.detach().clone() for name, value in module.state_dict().items()}
    module.load_state_dict(checkpoint.load_tensors(path_of(session.folder)))
    try:
        yield
    finally:
        module.load_state_dict(now)


def before(session: Session, teacher: Collected | None) -> dict[str, Any] | None:
    """How a model of tokens did before its last stage, on the test split: `metrics`, and `agreement` with its teacher.

    None of other models, and of a student whose weights were not kept.
    """
    if not _of_tokens(session) or not path_of(session.folder).exists():
        return None
    with as_begun(session):
        first = session.collect("student", "test")
        matched = teacher is not None and teacher.fits(first)
        return {
            "metrics": session.task.report(first.logits, first.labels),
            "agreement": session.task.agreement(first.logits, teacher.logits, first.labels) if matched and teacher else None,
        }


def recovered(first: Mapping[str, Any] | None, now: Mapping[str, float], teacher: Mapping[str, float] | None) -> float | None:
    """Share of the gap to its teacher that a student has recovered, in loss: (before - now) / (before - teacher).

    Above 1 where it is better than its teacher, below 0 where it is worse than before; None where the teacher is not ahead of what the
    student was before, so that there is no gap.
    """
    values = [found.get("nll") for found in ((first or {}).get("metrics") or {}, now, teacher or {})]
    start, end, aim = values
    if start is None or end is None or aim is None or start <= aim:
        return None
    return (start - end) / (start - aim)


def flips(session: Session, said: Mapping[str, Collected | None], teacher: str | None) -> dict[str, float] | None:
    """What the student gained, what it forgot and how often the teacher knew better, on the test split.

    Besides `flip_report` it holds `teacher_share`: of how many examples the teacher gives the label a higher probability than the student
    did at first. None where the student began with nothing, or there is no teacher of the same classes.
    """
    own, other = said["student"], said[teacher] if teacher is not None else None
    if own is None or other is None or session.task.labels != "class" or not path_of(session.folder).exists():
        return None
    if other.logits.shape != own.logits.shape:
        return None
    with as_begun(session):
        first = session.collect("student", "test").logits
    known = labelled(own.labels)
    labels, (first, student, theirs) = own.labels[known], (logits[known] for logits in (first, own.logits, other.logits))
    report = flip_report(first.argmax(1), student.argmax(1), theirs.argmax(1), labels)
    chosen = surest(torch.stack([first, theirs]), labels, temperature=1.0)
    return {**report, "teacher_share": chosen.double().mean().item()}
