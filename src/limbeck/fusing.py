"""Models of a run that answer together (`evaluate.fused`): what they say of the test split, and who writes for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from .beginnings import recovered
from .config.evaluate_schema import FusedSpec
from .engine.evaluation import Collected
from .errors import LimbeckError
from .evaluate.fusion import FusedWriter
from .session import Session
from .tokens import Fused, Hidden, Logits

Ask = Callable[[str], Collected]


def fused_entries(session: Session, said: Mapping[str, Collected | None]) -> dict[str, dict[str, Any]]:
    """What results.json says of all that is fused, by name."""
    kept = {name: value for name, value in said.items() if value is not None}

    def ask(name: str) -> Collected:
        if name not in kept:
            kept[name] = session.collect(name, "test")
        return kept[name]

    return {name: _entry(session, spec, ask) for name, spec in session.recipe.evaluate.fused.items()}


def _entry(session: Session, spec: FusedSpec, ask: Ask) -> dict[str, Any]:
    large, task = ask(spec.large), session.task
    moves = tuple((tokens_of(ask(after)), tokens_of(ask(before))) for after, before in spec.experts.items())
    own: Any = Fused(tokens_of(large), moves, spec.weight)
    metrics = task.report(own, large.labels, large.examples)
    aim = ask(spec.aim) if spec.aim is not None else None
    towards = task.report(aim.logits, aim.labels, aim.examples) if aim is not None else None
    first = {"metrics": task.report(large.logits, large.labels, large.examples)}
    changes = [f"{after} - {before}" for after, before in spec.experts.items()]
    return {
        "role": "fused",
        "reference": " + ".join([spec.large, *changes]),
        "metrics": metrics,
        "agreement": task.agreement(own, aim.logits, large.labels) if aim is not None else None,
        "recovered": recovered(first, metrics, towards),
        "reliability": task.details(own, large.labels).get("reliability"),
    }


def tokens_of(said: Collected) -> Hidden | Logits:
    """What a language model says of all rows.

    Raises:
        LimbeckError: of other models.
    """
    if isinstance(said.logits, Hidden):
        return said.logits
    raise LimbeckError("only models that predict tokens can be fused.")


def writer(session: Session, name: str) -> nn.Module:
    """The model that writes under a name: one of the run's, or several together."""
    spec = session.recipe.evaluate.fused.get(name)
    if spec is None:
        return session.models[name].module

    def module(own: str) -> nn.Module:
        return session.models[own].module.to(session.backend.device)

    moves = [(module(after), module(before)) for after, before in spec.experts.items()]
    return FusedWriter(module(spec.large), moves, spec.weight, session.data().info.num_outputs)
