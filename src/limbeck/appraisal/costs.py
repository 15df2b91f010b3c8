"""What models cost in full: latency percentiles, throughput, memory and energy for batches of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ..data.language.seq2seq import start_token
from ..evaluate.energy import meter
from ..evaluate.speed import speed
from ..evaluate.waiting import waiting
from ..session import Session
from .desk import Panel


def costs(panel: Panel) -> None:
    """Adds `batches`, a measurement for each size, and `energy_source` to the cost of every model."""
    session, wish = panel.session, panel.wish
    device = session.backend.device
    counter = meter(device)
    for name in panel.said:
        measured: dict[str, Any] = {}
        for size in dict.fromkeys(wish.cost):
            module, forward = forward_of(session, name, size)
            measured[str(size)] = speed(module, forward, size, device, counter)
        largest = measured[str(max(wish.cost))]
        cost = panel.found[name].cost
        cost |= {"batches": measured, "energy_source": counter.source, "energy_reason": counter.reason}
        cost |= {key: largest[key] for key in ("throughput", "peak_bytes", "energy_j")}
        cost["latency_p99_ms"] = measured[str(min(wish.cost))]["latency_ms"]["p99"]


def waits(panel: Panel, length: int) -> None:
    """Adds how long one waits for tokens after a prompt of `length` to the cost of every model of the run that writes.

    Args:
        panel: the models.
        length: tokens of the prompt.
    """
    for name in panel.said:
        if name in panel.session.models:  # not those that answer together
            panel.found[name].cost |= wait_of(panel.session, name, length)


def wait_of(session: Session, name: str, length: int, *, rounds: int | None = None) -> dict[str, float]:
    """How long one waits for the tokens of a model of the run; see `limbeck.evaluate.waiting`."""
    built, splits = session.models[name], session.data()
    info = splits.info.shown(built.request.view)
    start = start_token(splits.tokenizer, session.recipe.data.decoder_start) if info.language == "seq2seq_lm" else None
    return waiting(built.module.to(session.backend.device), length, outputs=info.num_outputs, start=start, rounds=rounds)


def forward_of(session: Session, name: str, size: int) -> tuple[nn.Module, Callable[[], Any]]:
    """A model where it runs, and a forward of a batch of so many examples."""
    built, device = session.models[name], session.backend.device
    module = built.module.to(device)
    inputs = session.task.example(session.data().info.shown(built.request.view), batch=size, device=str(device)).inputs
    return module, lambda: module(**inputs) if isinstance(inputs, Mapping) else module(inputs)
