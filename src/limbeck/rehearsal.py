"""A small dictation, timed and weighed: what it will cost to write what a language model says of all documents, and to read it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from .calibration import Labelled, least
from .data.language.rows import LanguageExamples
from .dictation import CODEC, HELD, Dictation, dictate, shard_size, token_signal
from .documents import Documents
from .engine.watch import Silent
from .errors import LimbeckError
from .session import Session
from .store.manifest import TOKEN_CODECS, TOKENS, Key, Manifest, Signal
from .store.places import Local
from .store.size import options
from .store.token_reader import TokenReader
from .teachers.base import Teacher
from .types import Batch, Signals

GROUPS = 16
"""Forward passes at most whose documents are written."""


@dataclass(frozen=True)
class Rehearsed:
    """What the whole store will be."""

    times: Labelled
    """Of one document, in the codec of `limbeck label` without `--signal`."""
    whole: Manifest
    """Without shards, in that codec."""
    sizes: dict[str, int]
    """Bytes of all files, by codec."""
    shard: int
    """Documents of a file."""


class Sample:
    """Some documents, as if there were no others.

    Args:
        whole: all of them.
        numbers: which, rising, `(documents,)`.
    """

    def __init__(self, whole: Documents, numbers: NDArray[np.int64]) -> None:
        self._whole, self._numbers = whole, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def keys(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """As of all."""
        return self._whole.keys(self._numbers[numbers])

    def lengths(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """As of all."""
        return self._whole.lengths(self._numbers[numbers])

    def shown(self, numbers: NDArray[np.int64]) -> Batch:
        """As of all; `documents` are numbers in the sample."""
        batch = self._whole.shown(self._numbers[numbers])
        place = np.searchsorted(self._numbers, batch.extra["documents"].numpy())
        return replace(batch, extra={**batch.extra, "documents": torch.from_numpy(place)})


class Repeated:
    """What a teacher said of batches in their order, said again without it."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher, self._said = teacher, list[Signals]()
        self._next = 0

    def signals(self, batch: Batch) -> Signals:
        """The answer of the same batch, the first time the teacher's."""
        if self._next == len(self._said):
            self._said.append(self._teacher.signals(batch))
        self._next += 1
        return self._said[self._next - 1]

    def again(self) -> None:
        """Begins anew."""
        self._next = 0


def rehearse(
    session: Session, teacher: Teacher, examples: LanguageExamples, vocabulary: int, *, batch: int, reads: int, budget: float
) -> Rehearsed:
    """Writes some documents with every codec, and reads them.

    Args:
        session: whose backend it runs on.
        teacher: who speaks.
        examples: the documents that the student will learn from.
        vocabulary: number of tokens of the data.
        batch: documents of a forward.
        reads: documents of an update of the student's.
        budget: seconds of the teacher's answers, about.

    Raises:
        LimbeckError: where the teacher says nothing of tokens.
    """
    documents = examples.augmented(session.seed("train-student"), 0).documents()
    numbers = np.arange(len(documents))
    lengths = documents.lengths(numbers)
    numbers = numbers[lengths > 0]
    tokens = int(lengths.sum())
    batch = max(min(batch, len(numbers), HELD // max(int(lengths.max(initial=1)), 1)), 1)
    first = documents.shown(_spread(numbers, batch)).to(session.backend.device)
    said = teacher.signals(first).tokens
    if said is None:
        raise LimbeckError("the teacher says nothing of tokens, so there is nothing to store.")
    once = least(lambda: teacher.signals(first))
    sample = Sample(documents, _spread(numbers, batch * max(2, min(GROUPS, int(budget / once)))))
    share = tokens / max(int(sample.lengths(np.arange(len(sample))).sum()), 1)
    repeated, sizes = Repeated(teacher), dict[str, int]()
    choices = token_choices(vocabulary)
    default = next(iter(choices))
    labelled, chosen = Labelled(0.0, 0.0, 0.0), token_signal(said, {TOKENS: choices[default]}, vocabulary)
    for text, asked in choices.items():
        try:
            signal = token_signal(said, {TOKENS: asked}, vocabulary)
        except LimbeckError:  # not for such a vocabulary, or such a teacher
            continue
        with _stored(session, repeated, sample, signal, batch) as (place, seconds):
            reader = TokenReader(place, verify=False)
            shards = sum(shard.bytes for shard in reader.manifest.shards)
            sizes[text] = round(shards * share) + sum(beside.bytes for beside in reader.manifest.files) + len(reader.manifest.text())
            if text == default:
                labelled = Labelled(seconds * share / len(numbers), 0.0, _reading(reader, sample, min(reads, len(sample))))
    whole = Manifest(len(numbers), 1, {TOKENS: chosen}, Key("", "", "", 0))
    return Rehearsed(labelled, whole, sizes, shard_size(chosen, sample))


def token_choices(vocabulary: int) -> dict[str, Signal]:
    """Every codec of tokens in each of its types, by a text as `--signal` takes it.

    The first is that of `limbeck label` where nothing is said; where there are too few tokens for it, half of them are kept.
    """
    given = {"topk": {"k": vocabulary // 2}} if vocabulary <= CODEC.build_tokens().fields()["k"] else {}
    found: dict[str, Signal] = {}
    for name in sorted(TOKEN_CODECS.names(), key=lambda name: (name != CODEC.codec, name)):
        kind = TOKEN_CODECS.get(name)
        for dtype in options(kind, "dtype") or (None,):
            fields = {**given.get(name, {}), **({} if dtype is None else {"dtype": dtype})}
            shown = {key: value for key, value in kind(**fields).fields().items() if key in ("k", "draws", "dtype")}
            text = ",".join(f"{key}={value}" for key, value in shown.items())
            found[f"{name}:{text}" if text else name] = Signal((), name, fields)
    return found


@contextmanager
def _stored(session: Session, teacher: Repeated, sample: Sample, signal: Signal, batch: int) -> Iterator[tuple[Local, float]]:
    """A store of the sample for as long as the block lasts, and the seconds that it took."""
    with TemporaryDirectory(prefix="limbeck-plan-") as folder:
        place = Local(Path(folder))
        teacher.again()
        work = Dictation(teacher.signals, [sample], batch, len(sample), place)
        plan = Manifest(0, 1, {TOKENS: signal}, Key("", "", "", 0))
        start = time.perf_counter()
        dictate(work, plan, session.backend, Silent(), lambda: False)
        yield place, time.perf_counter() - start


def _spread(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of the numbers, evenly."""
    count = min(count, len(numbers))
    return numbers[np.arange(count) * len(numbers) // count]


def _reading(reader: TokenReader, sample: Sample, count: int) -> float:
    """Seconds to read what is stored of an update's documents."""
    numbers = np.arange(count)
    shown, keys = sample.shown(numbers), sample.keys(numbers)
    labels, extra = shown.labels, shown.extra
    if labels is None:
        return 0.0
    return least(lambda: reader.read(keys, extra["documents"], extra["within"], labels))
