"""A shard of documents: their keys in rising order, and a row for every trained token of each, one document after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..documents import KEY_BYTES
from .manifest import TOKENS, StoreError
from .shards import OpenShard
from .tokens.base import STREAM, TokenCodec

KEY, STOP, BYTES = "documents/key", "documents/stop", "documents/bytes"
CHECK, MEASURED = f"{TOKENS}/check", "measured"
KEY_TYPE = f"S{KEY_BYTES}"
"""Of numpy, for keys that are compared and searched."""
_SPREAD, _WORD = 2_654_435_761, 2**32 - 1


def check_bytes(targets: Tensor) -> Tensor:
    """A byte of each target token, uint8: tells with 255 of 256 that a token is another."""
    return (((targets.cpu().long() * _SPREAD) & _WORD) >> 24).to(torch.uint8)


@dataclass(frozen=True)
class Piece:
    """Some encoded rows."""

    document: NDArray[np.int64]
    """Which document of the shard each row belongs to, from 0, `(rows,)`."""
    within: NDArray[np.int64]
    """Which trained token of its document, `(rows,)`."""
    arrays: Mapping[str, Tensor]
    """By name, with the check bytes; a row each, but for the stream."""


def assembled(pieces: Sequence[Piece], keys: NDArray[np.uint8], codec: TokenCodec, vocabulary: int, measured: Tensor) -> dict[str, Tensor]:
    """The arrays of a shard from its rows in any order.

    Args:
        pieces: what was encoded; at least one.
        keys: of the shard's documents, `(documents, 32)`, rising.
        codec: which wrote it.
        vocabulary: number of tokens that there are.
        measured: sums over the shard, for the manifest.

    Raises:
        StoreError: where a document's tokens are not there once each.
    """
    document = np.concatenate([piece.document for piece in pieces])
    within = np.concatenate([piece.within for piece in pieces])
    order = np.lexsort((within, document))
    stop = np.cumsum(np.bincount(document, minlength=len(keys)))
    expected = np.arange(len(order)) - (stop - np.diff(stop, prepend=0))[document[order]]
    if not np.array_equal(within[order], expected):
        raise StoreError("the data show the trained tokens of a document more than once, or not all of them.")
    names = [name for name in pieces[0].arrays if name != STREAM]
    whole = {name: torch.cat([piece.arrays[name] for piece in pieces]) for name in names}
    found = {f"{TOKENS}/{name}": value[torch.from_numpy(order)] for name, value in whole.items()}
    if codec.streams:
        sizes = codec.sizes(whole, vocabulary).numpy()
        stream = np.concatenate([piece.arrays[STREAM].numpy() for piece in pieces])
        found[f"{TOKENS}/{STREAM}"] = torch.from_numpy(stream[_spans(np.cumsum(sizes)[order] - sizes[order], sizes[order])])
        ends = np.concatenate([[0], np.cumsum(sizes[order])])
        found[BYTES] = torch.from_numpy(ends[stop])
    return {**found, KEY: torch.from_numpy(keys), STOP: torch.from_numpy(stop), MEASURED: measured[None]}


def _spans(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every place from `starts` on, as many as `sizes` says, one after another."""
    ends = np.cumsum(sizes)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - sizes), sizes)


def keys_of(shard: OpenShard) -> NDArray[np.void]:
    """The keys of a mapped shard, `(documents,)`; nothing is read yet."""
    return shard[KEY].rows.numpy().view(KEY_TYPE).reshape(-1)


def bounds(shard: OpenShard, name: str, documents: NDArray[np.int64]) -> NDArray[np.int64]:
    """First row (or byte) of documents and the one after their last, `(documents, 2)`."""
    column = np.frombuffer(shard[name].flat, dtype="<i8")
    return np.stack([np.where(documents > 0, column[documents - 1], 0), column[documents]], axis=1)
