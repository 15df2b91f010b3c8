"""Reads a store: signals of any examples in any order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..types import Signals
from .manifest import Key, Manifest, Shard, StoreError, read_manifest
from .places import Place, place
from .shards import OpenShard, check_size, gather, open_shard, verify_shard

LOGITS = "logits"
OPEN_VIEWS = 16
"""Views whose shards are mapped at a time; an epoch reads one, but for `data.crops` and SelfMix."""


class Opened:
    """A store that is whole: its manifest, and its shards as they are needed.

    Memory does not grow with the store: its contents stay on disk and are read row by row.

    Args:
        folder: where it lies; a path, or an address of fsspec, whose shards are copied into a temporary folder.
        verify: compare every shard's checksum first, so that damage is found here and not in the middle of a training.

    Raises:
        StoreError: where it is unfinished, damaged, or examples are missing.
    """

    def __init__(self, folder: str | Path | Place, *, verify: bool = True) -> None:
        self.place = place(folder)
        self.manifest: Manifest = read_manifest(self.place)
        self._plan = [self._shards(view) for view in range(self.manifest.views)]
        self._starts = [np.array([shard.start for shard in own], dtype=np.int64) for own in self._plan]
        self._open: dict[int, list[OpenShard]] = {}
        self._verify(whole=verify)

    def _verify(self, *, whole: bool) -> None:
        """Every shard is there and as it was written, and there is none besides."""
        written = [*self.manifest.shards, *self.manifest.files]
        known = {shard.file for shard in written}
        extra = [name for name in self.place.names() if name.endswith(".safetensors") and name not in known]
        if extra:
            raise StoreError(f"{self.place.at(extra[0])}: the manifest knows no such shard; it belongs to another store. Remove it.")
        check = verify_shard if whole else check_size
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # neither reading nor the checksum holds the interpreter
            for _ in pool.map(lambda shard: check(self.place, shard), written):
                pass

    def _shards(self, view: int) -> list[Shard]:
        """The shards of a view in order; together they must hold every example once."""
        own = sorted((shard for shard in self.manifest.shards if shard.view == view), key=lambda shard: shard.start)
        expected = 0
        for shard in own:
            if shard.start != expected:
                break
            expected = shard.stop
        if expected != self.manifest.examples:
            raise StoreError(f"{self.place}: view {view} has no signals of example {expected} (of {self.manifest.examples}).")
        return own

    def _mapped(self, view: int) -> list[OpenShard]:
        """The shards of a view, mapped; those of the view that was opened longest ago are let go."""
        if view not in self._open:
            while len(self._open) >= OPEN_VIEWS:
                del self._open[next(iter(self._open))]
            self._open[view] = [open_shard(self.place.fetch(shard.file), self.place.at(shard.file)) for shard in self._plan[view]]
        return self._open[view]


class StoreReader(Opened):
    """An open store of examples' signals; a store of tokens is read by `TokenReader`.

    Raises:
        StoreError: also where it holds tokens.
    """

    def __init__(self, folder: str | Path | Place, *, verify: bool = True) -> None:
        super().__init__(folder, verify=verify)
        if self.manifest.language:
            raise StoreError(f"{self.place}: what a language model says of tokens lies here, and signals of examples are asked for.")
        self._codecs = {name: signal.build() for name, signal in self.manifest.signals.items()}
        self._layouts = {name: list(self._codecs[name].layout(signal.shape)) for name, signal in self.manifest.signals.items()}

    def complete(self, name: str, *, completion: str | None, keep: int | None) -> None:
        """Reads a signal of which the largest probabilities are kept in another way than the store says.

        Args:
            name: of the signal.
            completion: what the other classes get; None as the store says.
            keep: read only so many of those that are kept; None all.

        Raises:
            LimbeckError: where the signal is not kept so, or fewer are kept.
        """
        self.has([name])
        self._codecs[name] = self._codecs[name].completed(completion, keep)

    def check(self, key: Key, examples: int) -> None:
        """Refuses a store that was made from something else.

        Raises:
            StoreError: with everything that differs.
        """
        mine, theirs = asdict(self.manifest.key), asdict(key)
        words = {
            "teacher": "the teacher's weights",
            "data": "the training data",
            "inputs": "normalisation or augmentation",
            "seed": "the seed",
            "origin": "how the teacher was trained",
        }
        differs = [f"{words[name]} (store {mine[name]}, recipe {theirs[name]})" for name in mine if mine[name] != theirs[name]]
        if examples != self.manifest.examples:
            differs.append(f"the number of training examples (store {self.manifest.examples}, recipe {examples})")
        if differs:
            raise StoreError(
                f"{self.place}: this store does not belong to the recipe: {'; '.join(differs)} differ. Make one with `limbeck label`."
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every signal as it is read back, without the batch."""
        first = self.read(torch.zeros(1, dtype=torch.int64), 0, list(self.manifest.signals))
        found = {name: tuple(value.shape[1:]) for name, value in first.features.items()}
        return found if LOGITS not in self.manifest.signals else {LOGITS: tuple(first.logits.shape[1:]), **found}

    def has(self, names: Sequence[str]) -> None:
        """Refuses to go on without a signal that is needed.

        Raises:
            StoreError: naming what is there.
        """
        absent = [name for name in names if name not in self.manifest.signals]
        if absent:
            known = ", ".join(map(repr, self.manifest.signals))
            raise StoreError(f"{self.place}: the objective reads {', '.join(map(repr, absent))} of the teacher, the store holds {known}.")

    def read(self, index: Tensor, view: int | Tensor, names: Sequence[str]) -> Signals:
        """The signals of the examples at `index`, in that order.

        Args:
            index: positions in the data set, `(batch,)`.
            view: number of the stored view, or one for each example, `(batch,)`.
            names: which signals; `logits` or layer paths.
        """
        if isinstance(view, Tensor):
            return self._read_views(index, view, names)
        starts, shards = self._starts[view], self._mapped(view)
        rows = index.numpy().astype(np.int64, copy=False)
        where = np.searchsorted(starts, rows, side="right") - 1
        local = rows - starts[where]
        found = {name: self._read(name, where, local, shards) for name in names}
        logits = found.pop(LOGITS, None)
        return Signals(logits=logits, features=found) if logits is not None else Signals(features=found)

    def _read_views(self, index: Tensor, views: Tensor, names: Sequence[str]) -> Signals:
        """Each example in a view of its own: read view by view and put back into order."""
        groups = [torch.nonzero(views == number).flatten() for number in views.unique().tolist()]
        read = [self.read(index[where], int(views[where[0]]), names) for where in groups]
        order = torch.cat(groups).argsort()
        features = {name: torch.cat([part.features[name] for part in read])[order] for name in read[0].features}
        logits = torch.cat([part.logits for part in read])[order] if LOGITS in names else None
        return Signals(logits=logits, features=features) if logits is not None else Signals(features=features)

    def _read(self, name: str, where: NDArray[np.int64], rows: NDArray[np.int64], shards: list[OpenShard]) -> Tensor:
        arrays = {array: gather(shards, f"{name}/{array}", where, rows) for array in self._layouts[name]}
        return self._codecs[name].decode(arrays, self.manifest.signals[name].shape)
