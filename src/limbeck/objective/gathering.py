"""Signals of all processes as one, for quantities of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ..types import PADDING, Head, Signals

Gather = Callable[[Tensor], Tensor]
"""Collects a tensor from all processes along the batch; only the local part carries a gradient."""


def gathered(signals: Signals, gather: Gather, world: int) -> Signals:
    """The signals of all `world` processes, without the mask of padding, which has another width in each of them."""
    logits = signals.logits if signals.logits is None else gather(signals.logits)
    head = signals.head
    if head is not None:
        head = Head(_shared(head.weight, world), None if head.bias is None else _shared(head.bias, world))
    return replace(
        signals,
        logits=logits,
        features={path: gather(value) for path, value in signals.features.items()},
        extra={name: gather(value) for name, value in signals.extra.items() if name != PADDING},
        head=head,
        views=tuple(gathered(view, gather, world) for view in signals.views),
    )


def _shared(value: Tensor, world: int) -> Tensor:
    """The value itself, whose gradient is divided by the number of processes, each of which has the whole of it."""
    fixed = value.detach()
    return fixed + (value - fixed) / world
