"""What the student was before its last stage, where it already knew something: kept for the report of what it gained and forgot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from . import assemble
from .engine import checkpoint
from .engine.evaluation import Collected
from .evaluate.flips import flip_report
from .files import writing
from .session import Session
from .teachers.ensemble import surest
from .types import labelled


def path_of(folder: Path) -> Path:
    """Where the weights are kept."""
    return folder / "checkpoints" / "initial.safetensors"


def keep(session: Session, number: int, turn: int) -> None:
    """Called before a round: writes the student's weights down where its last stage begins and it is no beginner."""
    last = max((i for i, phase in enumerate(session.phases) if phase.learner == "student"), default=-1)
    weights = session.recipe.student.weights
    begun = any(done.learner == "student" for done in session.done) or weights not in (None, assemble.RANDOM)
    if (number, turn) != (last, 0) or session.phases[number].start == "fresh" or not begun or not session.backend.is_main:
        return
    with writing(path_of(session.folder)) as temporary:
        checkpoint.save_tensors(temporary, session.models["student"].module.state_dict())


def flips(session: Session, said: Mapping[str, Collected | None], teacher: str | None) -> dict[str, float] | None:
    """What the student gained, what it forgot and how often the teacher knew better, on the test split.

    Besides `flip_report` it holds `teacher_share`: of how many examples the teacher gives the label a higher probability than the student
    did at first. None where the student began with nothing, or there is no teacher of the same classes.
    """
    path = path_of(session.folder)
    own, other = said["student"], said[teacher] if teacher is not None else None
    if own is None or other is None or session.task.labels != "class" or not path.exists() or other.logits.shape != own.logits.shape:
        return None
    module = session.models["student"].module
    now = {name: value.detach().clone() for name, value in module.state_dict().items()}
    module.load_state_dict(checkpoint.load_tensors(path))
    try:
        first = session.collect("student", "test").logits
    finally:
        module.load_state_dict(now)
    known = labelled(own.labels)
    labels, (first, student, theirs) = own.labels[known], (logits[known] for logits in (first, own.logits, other.logits))
    report = flip_report(first.argmax(1), student.argmax(1), theirs.argmax(1), labels)
    chosen = surest(torch.stack([first, theirs]), labels, temperature=1.0)
    return {**report, "teacher_share": chosen.double().mean().item()}
