"""Runs a model over a split and collects what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LimbeckError, NonFinite
from ..teachers.base import Call
from ..tokens import Hidden, Projection
from ..types import Batch, Signals
from .backend import Backend


@dataclass(frozen=True)
class Collected:
    """What a model says of a split, with the labels, in the order of the examples, on the CPU.

    Of a language model, `logits` are hidden states with the head, which stays the model's own: a row for each trained token.
    """

    logits: Any
    labels: Tensor
    examples: Tensor | None = None
    """Number of the example that each row belongs to; of windows of a text, of the question that is asked about it."""
    given: Tensor | None = None
    """Of the tokens of a causal language model, whether each belongs to a prompt (1) or not (0)."""

    def fits(self, other: Collected) -> bool:
        """Whether the two can be compared: the same examples and, but for language models, the same number of outputs."""
        if isinstance(self.logits, Tensor) and isinstance(other.logits, Tensor):
            return self.logits.shape == other.logits.shape
        return isinstance(self.logits, Hidden) and isinstance(other.logits, Hidden) and len(self.labels) == len(other.labels)


@dataclass
class _Parts:
    """What has been said so far, batch by batch."""

    values: list[Tensor]
    labels: list[Tensor]
    index: list[Tensor]
    examples: list[Tensor]
    given: list[Tensor]
    head: Projection | None = None
    rows: bool = False
    """Whether there is a row for each of several tokens of an example."""

    def add(self, said: Signals, batch: Batch) -> None:
        """Keeps what a model says of a batch."""
        if isinstance(said.tokens, Hidden):
            self.head, self.rows = said.tokens.head, True
            values, index = said.tokens.hidden, _of_rows(batch)
        else:
            values, index = said.logits.float(), batch.index if batch.rows is None else _of_rows(batch)
            self.rows = batch.rows is not None
        self.values.append(values.cpu())
        self.labels.append(batch.labels.cpu() if batch.labels is not None else torch.zeros(len(batch)))
        self.index.append(index.cpu())
        self.examples.append(batch.extra["questions"].cpu() if "questions" in batch.extra else index.cpu())
        if "given" in batch.extra:
            self.given.append(batch.extra["given"].cpu())

    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor, bool, Tensor | None] | None:
        """Numbers of the examples, values, labels, what they belong to, whether they are rows, and whether these are of prompts; None where
        there is nothing."""
        if not self.index:
            return None
        values, labels, examples = (torch.cat(own) for own in (self.values, self.labels, self.examples))
        return torch.cat(self.index), values, labels, examples, self.rows, torch.cat(self.given) if self.given else None


def _of_rows(batch: Batch) -> Tensor:
    """Number of the example that each trained token belongs to."""
    if batch.rows is None:
        raise LimbeckError("a language model needs batches that say which tokens are trained.")
    return batch.index[(batch.rows // batch.tokens_shape[1]).cpu()]


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
    """What `module` says over `loader`, in evaluation mode; the module's mode is restored.

    Raises:
        NonFinite: where its outputs are not numbers; `name` is what the message calls the model.
    """
    said = _Parts([], [], [], [], [])
    mode = module.training
    module.eval()
    autocast: Any = torch.autocast(backend.device.type, precision) if precision else nullcontext()
    try:
        with torch.no_grad(), autocast:
            for batch in loader:
                if interrupted is not None:
                    interrupted()
                here = batch.to(backend.device)
                said.add(call(module, here), here)
    finally:
        module.train(mode)
    parts = [part for part in backend.gather_objects(said.all()) if part is not None]
    order = torch.cat([part[0] for part in parts])
    first = torch.sort(order, stable=True).indices if any(part[4] for part in parts) else _unique_first(order)[1]
    values, labels, examples = (torch.cat([part[number] for part in parts])[first] for number in (1, 2, 3))
    broken = values.isnan().flatten(1).any(1)
    if broken.any():
        which = ", ".join(map(str, broken.nonzero().flatten().tolist()[:16]))
        raise NonFinite(
            f"{name}: its outputs are not a number for {int(broken.sum())} of {len(broken)} held-out examples, such as {which}. "
            "Where it was just trained, its weights have become useless: try a smaller learning rate, `train.clip: 1.0` or warm-up."
        )
    prompts = [part[5] for part in parts if part[5] is not None]
    given = torch.cat(prompts)[first] if len(prompts) == len(parts) else None
    return Collected(values if said.head is None else Hidden(values, _on_cpu(said.head)), labels, examples, given)


def _on_cpu(head: Projection) -> Projection:
    return replace(head, weight=head.weight.detach().cpu(), bias=None if head.bias is None else head.bias.detach().cpu())


def _unique_first(index: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted unique values and where each stands first."""
    ordered, positions = torch.sort(index, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    keep[1:] = ordered[1:] != ordered[:-1]
    return ordered[keep], positions[keep]
