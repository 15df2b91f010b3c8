"""Documents, a teacher and a store of what it says, small enough to be made in every test."""

from __future__ import annotations

import numpy as np
import torch

from limbeck.dictation import Dictation, dictate, token_signal
from limbeck.documents import document_key
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Silent
from limbeck.ops.projection import logits_of
from limbeck.store.manifest import TOKENS, Key, Manifest, Signal
from limbeck.tokens import Hidden, Projection, Tokens
from limbeck.types import Batch, Signals

VOCABULARY, WIDTH, PADDED = 300, 8, 304
KEY = Key(teacher="a" * 64, data="", inputs="{}", seed=3)


class Texts:
    """Random documents; a third of each one's tokens is a prompt, which is not trained."""

    def __init__(self, count: int = 20, seed: int = 0, ids: list[np.ndarray] | None = None) -> None:
        draw = np.random.default_rng(seed)
        self.ids = [draw.integers(0, VOCABULARY, int(draw.integers(2, 30))) for _ in range(count)] if ids is None else ids
        self.trained = [np.arange(len(own)) > len(own) // 3 for own in self.ids]
        self.batches: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.ids)

    def keys(self, numbers: np.ndarray) -> np.ndarray:
        keys = [document_key(self.ids[i], self.trained[i]) for i in numbers.tolist()]
        return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 32)

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        return np.array([len(self.ids[i]) for i in numbers.tolist()])

    def shown(self, numbers: np.ndarray) -> Shown:
        self.batches.append(numbers.tolist())
        width = max(len(self.ids[i]) for i in numbers.tolist())
        inputs = torch.zeros(len(numbers), width, dtype=torch.int64)
        rows, labels, documents, within = [], [], [], []
        for line, number in enumerate(numbers.tolist()):
            own = torch.from_numpy(self.ids[number])
            inputs[line, : len(own)] = own
            places = np.flatnonzero(self.trained[number])
            rows += (places - 1 + line * width).tolist()
            labels += own[places].tolist()
            documents += [number] * len(places)
            within += list(range(len(places)))
        extra = {"documents": torch.tensor(documents), "within": torch.tensor(within)}
        return Shown({"input_ids": inputs}, torch.tensor(labels), torch.from_numpy(numbers), extra, rows=torch.tensor(rows))

    def subset(self, numbers: list[int]) -> Texts:
        return Texts(ids=[self.ids[i] for i in numbers])


class Shown(Batch):
    """A batch that has labels."""

    labels: torch.Tensor  # pyright: ignore[reportIncompatibleVariableOverride]


class Voice:
    """A model whose state is a function of this token and of the sum of those before it."""

    def __init__(self, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.table = torch.randn(VOCABULARY, WIDTH, generator=draw)
        weight = torch.randn(PADDED, WIDTH, generator=draw)
        self.head = Projection(weight, torch.randn(PADDED, generator=draw), 0.7, 9.0)
        self.count = 0

    def signals(self, batch: Batch) -> Signals:
        self.count += 1
        assert batch.rows is not None
        state = self.table[batch.inputs["input_ids"]]
        before = (torch.cumsum(state, 1) - state).round(decimals=2)
        return Signals(tokens=Hidden((state + torch.tanh(before)).flatten(0, 1)[batch.rows], self.head))

    def says(self, batch: Batch) -> Tokens:
        found = self.signals(batch).tokens
        assert found is not None
        return found


def write(folder, codec: str = "topk", texts: Texts | None = None, voice=None, *, interrupted=lambda: False, shard=6, batch=4, **fields):
    """Makes a store, with what it was made from."""
    texts, voice = texts or Texts(), voice or Voice()
    said = voice.says(texts.shown(np.array([0])))
    signal = token_signal(said, {TOKENS: Signal((), codec, fields)}, VOCABULARY)
    plan = Manifest(0, 1, {TOKENS: signal}, KEY)
    work = Dictation(voice.signals, [texts], batch, shard, folder)
    return dictate(work, plan, Backend(device="cpu"), Silent(), interrupted), texts, voice


def read(reader, texts: Texts, numbers: list[int]):
    """What the store holds of documents, with the batch that shows them."""
    batch = texts.shown(np.array(numbers))
    owner = torch.tensor([numbers.index(own) for own in batch.extra["documents"].tolist()])
    return reader.read(texts.keys(np.array(numbers)), owner, batch.extra["within"], batch.labels), batch


def dense(said: Tokens) -> torch.Tensor:
    return logits_of(said, VOCABULARY).double().log_softmax(1)
