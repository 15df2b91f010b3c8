"""What a stored language model says of the tokens of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..documents import Documents
from ..errors import LimbeckError
from ..store.token_reader import TokenReader
from ..tokens import Hidden, Projection, Sampled, Tokens, TopK
from ..types import Batch

Shown = Callable[[int], Documents]
"""The documents of the training data in an augmentation."""


def token_signals(reader: TokenReader, shown: Shown | None, batch: Batch, keep: int | None, device: torch.device) -> Tokens:
    """A row for every trained token of a batch.

    Args:
        reader: the store.
        shown: the documents whose numbers the batch holds.
        batch: of texts.
        keep: read only so many of the likeliest tokens; None all.
        device: where they are wanted.

    Raises:
        LimbeckError: data that are no documents, or a document of which nothing is stored.
    """
    if shown is None or batch.labels is None or "documents" not in batch.extra:
        raise LimbeckError(f"{reader.place}: the store is one of documents of texts, and the data are none.")
    if batch.mixed is not None:
        raise LimbeckError("texts cannot be mixed, and data.mix mixes the inputs.")
    view = _view(batch.epoch) if reader.manifest.views > 1 else 0
    numbers, owner = batch.extra["documents"].cpu().unique(return_inverse=True)
    keys = shown(view).keys(numbers.numpy().astype(np.int64))
    said = reader.read(keys, owner, batch.extra["within"].cpu(), batch.labels.cpu(), view)
    if keep is not None and isinstance(said, TopK):
        log_probs, order = said.log_probs.topk(keep, dim=1)
        said = replace(said, ids=said.ids.gather(1, order), log_probs=log_probs)
    return moved(said, device)


def check_keep(reader: TokenReader, keep: int | None, completion: str | None) -> None:
    """Refuses a way to read the likeliest tokens that a store cannot be read in.

    Raises:
        LimbeckError: with what it holds.
    """
    signal = reader.manifest.signals["tokens"]
    if completion is not None:
        raise LimbeckError(f"{reader.place}: losses on tokens know the mass of those that are not named; leave `completion` out.")
    if keep is not None and keep > int(signal.fields.get("k", 0)):
        held = f"keeps {signal.fields['k']} tokens a row" if "k" in signal.fields else f"keeps no list of likeliest tokens ({signal.codec})"
        raise LimbeckError(f"{reader.place}: the store {held}, `keep` asks for {keep}.")


def _view(epoch: int | Tensor) -> int:
    if isinstance(epoch, int):
        return epoch
    first = int(epoch[0])
    if not bool((epoch == first).all()):
        raise LimbeckError("a batch of texts shows one augmentation; leave data.crops out.")
    return first


def on_device(head: Projection, device: torch.device) -> Projection:
    """The same head on `device`."""
    return replace(head, weight=head.weight.to(device), bias=None if head.bias is None else head.bias.to(device))


def moved(said: Tokens, device: torch.device) -> Tokens:
    """The same on `device`; the head of hidden states is there already."""
    if isinstance(said, Hidden):
        return Hidden(said.hidden.to(device), said.head)
    if isinstance(said, TopK):
        return replace(said, ids=said.ids.to(device), log_probs=said.log_probs.to(device))
    return replace(said, ids=said.ids.to(device), weights=said.weights.to(device)) if isinstance(said, Sampled) else said
