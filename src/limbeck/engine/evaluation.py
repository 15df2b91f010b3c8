"""Runs a model over a split and collects what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NonFinite
from ..teachers.base import Call
from ..types import Batch
from .backend import Backend


@dataclass(frozen=True)
class Collected:
    """A model's logits over a split, with the labels, in the order of the examples, on the CPU."""

    logits: Tensor
    labels: Tensor


def collect(
    module: nn.Module,
    call: Call,
    loader: Iterable[Batch],
    backend: Backend,
    *,
    name: str = "the model",
    precision: torch.dtype | None = None,
    interrupted: Callable[[], None] | None = None,
) -> Collected:
    """Logits of `module` over `loader`, in evaluation mode; the module's mode is restored.

    Raises:
        NonFinite: where they are not numbers; `name` is what the message calls the model.
    """
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    index: list[Tensor] = []
    mode = module.training
    module.eval()
    autocast: Any = torch.autocast(backend.device.type, precision) if precision else nullcontext()
    try:
        with torch.no_grad(), autocast:
            for batch in loader:
                if interrupted is not None:
                    interrupted()
                logits.append(call(module, batch.to(backend.device)).logits.float().cpu())
                labels.append(batch.labels if batch.labels is not None else torch.zeros(len(batch)))
                index.append(batch.index)
    finally:
        module.train(mode)
    own = (torch.cat(index), torch.cat(logits), torch.cat(labels)) if index else None
    parts = [part for part in backend.gather_objects(own) if part is not None]
    order = torch.cat([part[0] for part in parts])
    _, first = _unique_first(order)
    found = Collected(torch.cat([part[1] for part in parts])[first], torch.cat([part[2] for part in parts])[first])
    broken = found.logits.isnan().flatten(1).any(1)
    if broken.any():
        which = ", ".join(map(str, broken.nonzero().flatten().tolist()[:16]))
        raise NonFinite(
            f"{name}: its outputs are not a number for {int(broken.sum())} of {len(broken)} held-out examples, such as {which}. "
            "Where it was just trained, its weights have become useless: try a smaller learning rate, `train.clip: 1.0` or warm-up."
        )
    return found


def _unique_first(index: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted unique values and where each stands first."""
    ordered, positions = torch.sort(index, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    keep[1:] = ordered[1:] != ordered[:-1]
    return ordered[keep], positions[keep]
