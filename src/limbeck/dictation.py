"""A language model dictates what it says of every trained token of all documents: the part of `limbeck label` that knows of language."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import assemble
from .assemble import Phase
from .belonging import origin, teacher_hash
from .data.language.rows import LanguageExamples
from .documents import Documents
from .engine.backend import Backend
from .engine.watch import Listener
from .errors import Interrupted, LimbeckError
from .ops.projection import vocabulary_of
from .session import Session
from .store.distortion import FIELDS
from .store.manifest import TOKENS, Key, Manifest, Signal, StoreError
from .store.places import Place
from .store.token_shards import Piece
from .store.token_writer import DocumentWriter
from .teachers.base import Teacher
from .teachers.remote import RemoteTeacher
from .tokens import Hidden, Logits, Tokens
from .types import Batch, Signals
from .version import __version__

HELD = 1 << 14
"""Tokens, with padding, of a forward pass at most, but for a document that is longer by itself."""
CODEC = Signal((), "topk", {})
SAMPLE = 1024
"""Tokens of a shard of which it is measured how far they are from the teacher, about."""


@dataclass(frozen=True)
class Order:
    """What `limbeck label` was asked for, as far as texts are concerned."""

    out: str | Path
    codecs: Mapping[str, Signal]
    views: int | None
    shard: int | None
    batch: int
    teacher: str


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


def label_documents(
    session: Session, phase: Phase, teacher: Teacher, examples: LanguageExamples, order: Order, interrupted: Callable[[], bool]
) -> Manifest:
    """Writes what a teacher says of every trained token of the training data.

    Args:
        session: after the stages before the student's.
        phase: the student's stage.
        teacher: open.
        examples: those that the student learns from.
        order: what is to be written, and where.
        interrupted: asked after every batch.

    Raises:
        LimbeckError: where the teacher knows other tokens, or what it says cannot be written so.
        Interrupted: when asked to stop; whole shards are kept.
    """
    seed, vocabulary = session.seed("train-student"), session.data(phase.data).info.num_outputs
    views = order.views or 1
    spec = assemble.teacher_specs(session.recipe)[order.teacher]
    shown = [examples.augmented(seed, view).documents(spec.view) for view in range(views)]
    random = random_in(examples, seed)
    if views > 1 and not random:
        raise LimbeckError(f"--views {views} was asked for, but nothing is random in these texts, so all views are the same.")
    first = shown[0].shown(np.array([0]))
    said = teacher.signals(first.to(session.backend.device)).tokens
    if said is None:
        raise StoreError("the teacher says nothing of tokens, so there is nothing to write.")
    if isinstance(said, Hidden | Logits) and vocabulary_of(said) < vocabulary:
        raise StoreError(
            f"the teacher knows {vocabulary_of(said):,} tokens, the tokenizer of the data has {vocabulary:,}: they are not one."
        )
    signal = token_signal(said, order.codecs, vocabulary)
    about = {"teacher": spec.model or spec.kind, "data": phase.data.source, "limbeck": __version__}
    weights, own = "", session.models.get(order.teacher)
    if own is not None:
        weights = teacher_hash(own)
    elif isinstance(teacher, RemoteTeacher):
        about["teacher"] = f"{teacher.served} on a server"
        weights = hashlib.sha256(f"remote {teacher.served}".encode()).hexdigest()
    key = Key(weights, "", inputs_of(examples, seed), seed, origin(session.recipe, order.teacher))
    plan = Manifest(0, views, {TOKENS: signal}, key, about=about)
    work = Dictation(teacher.signals, shown, order.batch, order.shard or shard_size(signal, shown[0]), order.out)
    manifest = dictate(work, plan, session.backend, session.listener, interrupted)
    for sentence in doubts(manifest):
        session.listener.message(sentence)
    return manifest


def random_in(examples: LanguageExamples, seed: int) -> bool:
    """Whether what is trained differs from epoch to epoch, as masked tokens do."""
    some = np.arange(min(len(examples.augmented(seed, 0).documents()), 8))
    one, two = (examples.augmented(seed, view).documents().keys(some) for view in (0, 1))
    return not np.array_equal(one, two)


def inputs_of(examples: LanguageExamples, seed: int) -> str:
    """What is random in texts, as a store's key says it."""
    return json.dumps({"transforms": ["masks"] if random_in(examples, seed) else []})


def shard_size(signal: Signal, documents: Documents) -> int:
    """Documents of a shard of about 64 MiB, at most 4096."""
    some = documents.lengths(np.arange(min(len(documents), 1024)))
    codec = signal.build_tokens()
    row = sum(dtype.itemsize * torch.Size(shape).numel() for dtype, shape in codec.layout(*signal.shape).values()) + (
        36 if codec.streams else 0
    )
    return int(min(max((64 << 20) // max(row * float(some.mean()), 1.0), 1), 4096))


def doubts(manifest: Manifest) -> list[str]:
    """What should make one look again: a teacher that guesses worse than one who knows nothing."""
    nll, vocabulary = manifest.measured.get("nll"), manifest.signals[TOKENS].shape[0]
    if nll is None or nll <= math.log(vocabulary):
        return []
    return [
        f"The teacher's own loss on these texts is {nll:.2f} nats a token; guessing evenly among {vocabulary:,} tokens gives "
        f"{math.log(vocabulary):.2f}. Is it trained, and is this its tokenizer?"
    ]


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


def dictate(work: Dictation, plan: Manifest, backend: Backend, listener: Listener, interrupted: Callable[[], bool]) -> Manifest:
    """Writes what is missing of a store of documents.

    Args:
        work: who speaks about what.
        plan: the manifest without documents, which are counted here.
        backend: the processes.
        listener: who is told how it goes.
        interrupted: asked after every batch.

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
    listener.stage("label", "", 0, 1, sum(map(len, batches)), 0)
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
