"""The end of the training beside its best: what the last weights and the validation split say of a model, for the results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .engine import checkpoint
from .rounds import Done, last_of
from .session import Session


def endings(session: Session, name: str) -> dict[str, Any]:
    """Of a model that learned: `valid`, its metrics on the validation split as it was handed on, and `last`.

    `last` holds `metrics` on the test split and `valid`, both of the weights of the last epoch; None where these were handed on. Empty for
    a model that was no learner.
    """
    own = [done for done in session.done if done.learner == name]
    if not own:
        return {}
    lines = _lines(session, own[-1])
    best = next((line for line in lines if line["step"] == own[-1].outcome.best_step), None) if _selects(session, own[-1]) else None
    handed, final = _plain(best or (lines[-1] if lines else None)), _plain(lines[-1] if lines else None)
    if not last_of(session.folder, name).exists():
        return {"valid": handed, "last": None}
    with as_last(session, name):
        said = session.collect(name, "test")
    return {"valid": handed, "last": {"metrics": session.task.report(said.logits, said.labels, said.examples), "valid": final}}


@contextmanager
def as_last(session: Session, name: str) -> Iterator[None]:
    """While it lasts, a model has the weights of its last epoch."""
    module = session.models[name].module
    now = {key: value.detach().clone() for key, value in module.state_dict().items()}
    module.load_state_dict(checkpoint.load_tensors(last_of(session.folder, name)))
    try:
        yield
    finally:
        module.load_state_dict(now)


def _selects(session: Session, done: Done) -> bool:
    return next(phase for phase in session.phases if phase.name == done.name).train.select == "best"


def _lines(session: Session, done: Done) -> list[Mapping[str, Any]]:
    """The evaluations of a round, in order."""
    path = session.journal.path
    if path is None or not path.exists():
        return []
    found = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in found if (line["stage"], line["round"], line["kind"]) == (done.name, done.round, "valid")]


def _plain(line: Mapping[str, Any] | None) -> dict[str, float] | None:
    """The learner's own metrics; those of peers stand under their names."""
    return None if line is None else {key: value for key, value in line["values"].items() if "/" not in key}
