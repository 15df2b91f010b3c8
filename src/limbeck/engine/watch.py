"""What is logged, and the watch over the loss. Values stay on the device until a log line is due."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import NonFinite
from ..files import unwritable, write_text


class Listener(Protocol):
    """Who is told how a run goes: a progress bar, a notebook, a test."""

    def stage(self, name: str, learner: str, round: int, rounds: int, updates: int, done: int) -> None:  # noqa: A002
        """A stage begins, or goes on after `done` updates; where nobody learns, for a teacher is only asked, `learner` is empty."""
        ...

    def update(self, update: int) -> None:
        """An update is over."""
        ...

    def record(self, record: Mapping[str, Any]) -> None:
        """A line was added to the metrics."""
        ...

    def message(self, text: str) -> None:
        """Something worth saying."""
        ...


class Silent:
    """Tells nobody."""

    def stage(self, name: str, learner: str, round: int, rounds: int, updates: int, done: int) -> None:  # noqa: A002, D102
        pass

    def update(self, update: int) -> None:  # noqa: D102
        pass

    def record(self, record: Mapping[str, Any]) -> None:  # noqa: D102
        pass

    def message(self, text: str) -> None:  # noqa: D102
        pass


class Journal:
    """The run's metrics.jsonl: one line a record, appended and flushed.

    A resumed run forgets the lines that came after the checkpoint that it goes on from.
    """

    def __init__(self, path: Path | None, listener: Listener) -> None:
        self.path, self.listener, self.started = path, listener, time.monotonic()
        self.lines = 0

    def resume(self, lines: int, seconds: float) -> None:
        """Keeps the first `lines` lines."""
        self.started = time.monotonic() - seconds
        self.lines = lines
        if self.path is not None and self.path.exists():
            kept = self.path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
            write_text(self.path, "".join(kept))

    def write(self, *, stage: str, round: int, kind: str, step: int, epoch: int, values: Mapping[str, float]) -> None:  # noqa: A002
        """Adds a record."""
        record = {"stage": stage, "round": round, "kind": kind, "step": step, "epoch": epoch, "time": round_(self.seconds)}
        record["values"] = {key: value if math.isfinite(value) else None for key, value in values.items()}
        if self.path is not None:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
            except OSError as error:
                raise unwritable(self.path, error) from error
        self.lines += 1
        self.listener.record(record)

    @property
    def seconds(self) -> float:
        """Time that the run has taken, over all its sessions."""
        return time.monotonic() - self.started


def round_(value: float) -> float:
    """Milliseconds are enough."""
    return round(value, 3)


class LossWatch:
    """Collects the terms of every update and reads them only when a log line is due.

    So there is no device synchronisation per update, and still the first update whose loss is not finite is named
    exactly. No checkpoint is written before the updates since the last reading were found finite.
    """

    def __init__(self, stage: str, labels: Sequence[str], reduce: Callable[[Tensor], Tensor], peers: Sequence[str] = ()) -> None:
        self.stage, self.labels, self._reduce, self._peers = stage, labels, reduce, peers
        self._pending: list[tuple[int, Tensor, list[Tensor]]] = []
        self.failed: dict[str, str] = {}
        """Of each peer whose terms the last flush found to be not finite: which, and when."""

    def add(self, update: int, values: Tensor, indices: list[Tensor]) -> None:
        """Takes the values `(labels,)` of an update, unread."""
        self._pending.append((update, values, indices))

    def flush(self) -> dict[str, float]:
        """Mean of each term over the updates since the last flush.

        Raises:
            NonFinite: with the term, the update and the examples, where a term of the learner is not finite.
        """
        self.failed = {}
        if not self._pending:
            return {}
        rows = self._reduce(torch.stack([values.float() for _, values, _ in self._pending])).tolist()
        pending, self._pending = self._pending, []
        for row, (update, _, indices) in zip(rows, pending, strict=True):
            for label, value in zip(self.labels, row, strict=True):
                if not math.isfinite(value):
                    peer, _, term = label.partition("/")
                    if peer not in self._peers:
                        raise NonFinite(_not_finite(self.stage, label, value, update, indices))
                    self.failed.setdefault(peer, f"its term {term} became {value} at update {update}")
        return {label: sum(row[i] for row in rows) / len(rows) for i, label in enumerate(self.labels)}


def _not_finite(stage: str, label: str, value: float, update: int, indices: list[Tensor]) -> str:
    examples = torch.cat(indices).tolist()
    shown = ", ".join(map(str, examples[:64])) + (f", ... ({len(examples)} in all)" if len(examples) > 64 else "")
    return (
        f"stage {stage!r}: the term objective.{label} became {value} at update {update}, on the training examples {shown}. "
        "The last good checkpoint is kept. Try a smaller learning rate, `train.clip: 1.0`, warm-up, or look at these examples."
    )
