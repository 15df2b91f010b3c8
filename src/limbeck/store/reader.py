"""Reads a store: signals of any examples in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..types import Signals
from .manifest import Key, Manifest, StoreError, read_manifest
from .shards import OpenShard, open_shard, verify_shard

LOGITS = "logits"


class StoreReader:
    """An open store.

    Args:
        folder: where it lies.
        verify: compare every shard's checksum first, so that damage is found here and not in the middle of a training.

    Raises:
        StoreError: where it is unfinished, damaged, or examples are missing.
    """

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self._codecs = {name: signal.build() for name, signal in self.manifest.signals.items()}
        for shard in self.manifest.shards if verify else ():
            verify_shard(folder, shard)
        self._views = [self._view(number) for number in range(self.manifest.views)]

    def _view(self, view: int) -> tuple[NDArray[np.int64], list[OpenShard]]:
        """Where each shard of a view begins, and the shards; together they must hold every example once."""
        own = sorted((shard for shard in self.manifest.shards if shard.view == view), key=lambda shard: shard.start)
        expected = 0
        for shard in own:
            if shard.start != expected:
                break
            expected = shard.stop
        if expected != self.manifest.examples:
            raise StoreError(f"{self.folder}: view {view} has no signals of example {expected} (of {self.manifest.examples}).")
        return np.array([shard.start for shard in own], dtype=np.int64), [open_shard(self.folder / shard.file) for shard in own]

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
        }
        differs = [f"{words[name]} (store {mine[name]}, recipe {theirs[name]})" for name in mine if mine[name] != theirs[name]]
        if examples != self.manifest.examples:
            differs.append(f"the number of training examples (store {self.manifest.examples}, recipe {examples})")
        if differs:
            raise StoreError(
                f"{self.folder}: this store does not belong to the recipe: {'; '.join(differs)} differ. Make one with `limbeck label`."
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
            raise StoreError(f"{self.folder}: the objective reads {', '.join(map(repr, absent))} of the teacher, the store holds {known}.")

    def read(self, index: Tensor, view: int, names: Sequence[str]) -> Signals:
        """The signals of the examples at `index`, in that order.

        Args:
            index: positions in the data set, `(batch,)`.
            view: number of the stored view.
            names: which signals; `logits` or layer paths.
        """
        starts, shards = self._views[view]
        rows = index.numpy().astype(np.int64, copy=False)
        where = np.searchsorted(starts, rows, side="right") - 1
        found = {name: self._read(name, rows, where, starts, shards) for name in names}
        logits = found.pop(LOGITS, None)
        return Signals(logits=logits, features=found) if logits is not None else Signals(features=found)

    def _read(
        self, name: str, rows: NDArray[np.int64], where: NDArray[np.int64], starts: NDArray[np.int64], shards: list[OpenShard]
    ) -> Tensor:
        signal, codec = self.manifest.signals[name], self._codecs[name]
        arrays: dict[str, Tensor] = {}
        for array in codec.layout(signal.shape):
            full = f"{name}/{array}"
            if len(shards) == 1:
                arrays[array] = shards[0].rows(full, rows)
                continue
            parts = [(np.flatnonzero(where == number)) for number in np.unique(where)]
            pieces = torch.cat([shards[where[part[0]]].rows(full, rows[part] - starts[where[part[0]]]) for part in parts])
            order = np.concatenate(parts)
            arrays[array] = pieces[torch.from_numpy(np.argsort(order, kind="stable"))]
        return codec.decode(arrays, signal.shape)
