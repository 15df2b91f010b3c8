"""A language model dictates what it says of every trained token of all documents: the part of `limbeck label` that knows of language."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .documents import Documents
from .engine.backend import Backend
from .engine.watch import Listener
from .errors import Interrupted
from .store.distortion import FIELDS
from .store.manifest import TOKENS, Manifest, Signal, StoreError
from .store.places import Place
from .store.token_shards import Piece
from .store.token_writer import DocumentWriter
from .tokens import Hidden, Tokens
from .types import Batch, Signals

HELD = 1 << 14
"""Tokens, with padding, of a forward pass at most, but for a document that is longer by itself."""
CODEC = Signal((), "topk", {})
SAMPLE = 1024
"""Tokens of a shard of which it is measured how far they are from the teacher, about."""


@dataclass(frozen=True)
class Dictation:
    """Documents, and who speaks about them."""

    ask: Callable[[Batch], Signals]
    """What the teacher says of a batch."""
    views: Sequence[Documents]
    """The same documents in every augmentation."""
    batch: int
    """Documents of a forward pass at most."""
    shard: int
    """Documents of a shard."""
    out: str | Path | Place


def token_signal(said: Tokens, asked: Mapping[str, Signal], vocabulary: int) -> Signal:
    """How the tokens are written.

    Args:
        said: what the teacher says of some.
        asked: what the user wants; `topk` where nothing is said.
        vocabulary: number of tokens of the data.

    Raises:
        StoreError: where something else than tokens is to be written.
        LimbeckError: where the codec cannot write them.
    """
    if unknown := sorted(asked.keys() - {TOKENS}):
        raise StoreError(f"--signal names {', '.join(unknown)}; of a language model {TOKENS} are written: {TOKENS}=topk:k=64.")
    codec = asked.get(TOKENS, CODEC).build_tokens()
    width = said.hidden.shape[1] if isinstance(said, Hidden) else 0
    codec.layout(vocabulary, width)
    return Signal((vocabulary, width), asked.get(TOKENS, CODEC).codec, codec.fields())


def order_of(documents: Documents) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Numbers of the documents that have trained tokens, in the order of their keys, and these keys."""
    numbers = np.arange(len(documents))
    numbers = numbers[documents.lengths(numbers) > 0]
    keys = documents.keys(numbers)
    order = np.argsort(np.ascontiguousarray(keys).view(f"S{keys.shape[1]}").reshape(-1), kind="stable")
    return numbers[order], keys[order]


def contents(keys: Sequence[NDArray[np.uint8]]) -> str:
    """SHA-256 of all keys, in their own order: the same for the same documents in any order."""
    digest = hashlib.sha256()
    for view in keys:
        digest.update(view.tobytes())
    return digest.hexdigest()


def dictate(work: Dictation, plan: Manifest, backend: Backend, listener: Listener, interrupted: Callable[[], bool], name: str) -> Manifest:
    """Writes what is missing of a store of documents.

    Args:
        work: who speaks about what.
        plan: the manifest without documents, which are counted here.
        backend: the processes.
        listener: who is told how it goes.
        interrupted: asked after every batch.
        name: of the teacher, for the listener.

    Raises:
        StoreError: where another store was begun there, or the data contradict themselves.
        Interrupted: when asked to stop; whole shards are kept.
    """
    ordered = [order_of(documents) for documents in work.views]
    keys = [own for _, own in ordered]
    plan = replace(plan, examples=len(keys[0]), key=replace(plan.key, data=contents(keys)))
    writer = DocumentWriter(work.out, plan, keys, shard_size=work.shard, rank=backend.rank, world=backend.world)
    missing = writer.missing()
    desk = _Desk(work, writer, ordered, backend)
    batches = [desk.batches(*piece) for piece in missing]
    listener.stage("label", name, 0, 1, sum(map(len, batches)), 0)
    done = 0
    for (view, start, stop), own in zip(missing, batches, strict=True):
        found: list[Piece] = []
        measured = torch.zeros(len(FIELDS), dtype=torch.float64)
        for piece, sums in desk.spoken(view, start, stop, own):
            found.append(piece)
            measured += sums
            done += 1
            listener.update(done)
            if interrupted():
                raise Interrupted(f"stopped; every whole shard in {work.out} is kept. The same command goes on.")
        writer.shard(view, start, stop, found, measured)
    backend.wait()
    manifest = writer.finish() if backend.is_main else plan
    backend.wait()
    return manifest


@dataclass
class _Desk:
    """Where the documents of a shard are laid out in batches, and what is said of them is encoded."""

    work: Dictation
    writer: DocumentWriter
    ordered: Sequence[tuple[NDArray[np.int64], NDArray[np.uint8]]]
    backend: Backend

    def batches(self, view: int, start: int, stop: int) -> list[NDArray[np.int64]]:
        """Numbers of a shard's documents, batch by batch: documents of like length together, few of those that are long."""
        numbers = self.ordered[view][0][start:stop]
        lengths = self.work.views[view].lengths(numbers)
        rest = np.argsort(-lengths, kind="stable")
        found: list[NDArray[np.int64]] = []
        while len(rest):
            count = max(min(self.work.batch, HELD // max(int(lengths[rest[0]]), 1)), 1)
            found.append(numbers[rest[:count]])
            rest = rest[count:]
        return found

    def spoken(self, view: int, start: int, stop: int, batches: Sequence[NDArray[np.int64]]) -> Iterator[tuple[Piece, Tensor]]:
        """What the teacher says of a shard's documents, encoded, and what was measured on it."""
        documents, numbers = self.work.views[view], self.ordered[view][0]
        places = np.full(len(documents), -1, dtype=np.int64)
        places[numbers] = np.arange(len(numbers))
        every = max(int(documents.lengths(numbers[start:stop]).sum()) // SAMPLE, 1)
        for own in batches:
            batch = documents.shown(own)
            said = self.work.ask(batch.to(self.backend.device)).tokens
            if said is None or batch.labels is None:
                raise StoreError("the teacher says nothing of tokens, so there is nothing to write.")
            if isinstance(said, Hidden):
                self.writer.keep_head(said.head)
            place = places[batch.extra["documents"].numpy()]
            yield self.writer.rows(view, said, batch.labels, place, batch.extra["within"].numpy().astype(np.int64), every=every)
