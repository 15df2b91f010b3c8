"""Writes a store shard by shard; whatever happens, the next attempt goes on after the last whole shard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from ..files import write_text
from ..types import Signals
from .manifest import Manifest, Shard, StoreError
from .reader import LOGITS
from .shards import verify_shard, write_shard

PARTS, PLAN = "parts", "plan.json"


class StoreWriter:
    """A store that is being made, by one process or several.

    Shard number n of the plan is written by process `n % world`. What is whole is known by a small record beside it, which is written
    after the shard; the manifest is written last of all and the records are removed.

    Args:
        folder: where the store will lie.
        plan: the manifest without shards.
        shard_size: examples of one shard.
        rank: number of this process.
        world: number of processes.

    Raises:
        StoreError: where the folder holds the beginning of another store.
    """

    def __init__(self, folder: Path, plan: Manifest, *, shard_size: int, rank: int = 0, world: int = 1) -> None:
        self.folder, self.plan, self.shard_size, self.rank, self.world = folder, plan, shard_size, rank, world
        self._codecs = {name: signal.build() for name, signal in plan.signals.items()}
        self._agree()

    def _agree(self) -> None:
        """An interrupted store may only be continued with the plan that it was begun with."""
        path = self.folder / PARTS / PLAN
        mine = json.loads(json.dumps({**asdict(self.plan), "shard_size": self.shard_size}))
        if path.exists():
            try:
                theirs = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise StoreError(f"{path}: cannot be read: {error}. Remove {self.folder} to begin anew.") from None
            differs = [name for name in mine if name != "about" and mine[name] != theirs.get(name)]
            if differs:
                raise StoreError(
                    f"{self.folder}: an unfinished store of something else lies here ({', '.join(differs)} differ). "
                    "Remove it or choose --out."
                )
        else:  # every process may: they all write the same
            write_text(path, json.dumps(mine, indent=1) + "\n")

    def _all(self) -> Iterator[tuple[int, int, int]]:
        for view in range(self.plan.views):
            for start in range(0, self.plan.examples, self.shard_size):
                yield view, start, min(start + self.shard_size, self.plan.examples)

    def missing(self) -> list[tuple[int, int, int]]:
        """View, first example and end of every shard that this process has still to write."""
        own = [piece for number, piece in enumerate(self._all()) if number % self.world == self.rank]
        return [piece for piece in own if self._record(*piece) is None]

    def _record_path(self, view: int, start: int) -> Path:
        return self.folder / PARTS / f"view{view:04d}-{start:012d}.json"

    def _record(self, view: int, start: int, stop: int) -> Shard | None:
        try:
            shard = Shard(**json.loads(self._record_path(view, start).read_text(encoding="utf-8")))
            verify_shard(self.folder, shard)
        except (OSError, ValueError, TypeError, StoreError):
            return None
        return shard if (shard.view, shard.start, shard.stop) == (view, start, stop) else None

    def encode(self, signals: Signals, index: Tensor) -> dict[str, Tensor]:
        """The arrays of a batch, by signal and array."""
        found: dict[str, Tensor] = {}
        for name, codec in self._codecs.items():
            value = signals.logits if name == LOGITS else signals.features[name]
            found |= {f"{name}/{array}": rows for array, rows in codec.encode(value, index).items()}
        return found

    def write(
        self, view: int, start: int, stop: int, batches: Iterator[dict[str, Tensor]], *, done: Callable[[int], None] | None = None
    ) -> None:
        """Writes one shard from the arrays of its batches, in order."""
        parts: list[dict[str, Tensor]] = []
        for arrays in batches:
            parts.append(arrays)
            if done is not None:
                done(len(next(iter(arrays.values()))))
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        shard = write_shard(self.folder, view, start, whole)
        if shard.stop != stop:
            raise StoreError(f"{self.folder}: the shard at {start} was to end at {stop}, its batches end at {shard.stop}.")
        write_text(self._record_path(view, start), json.dumps(asdict(shard)))

    def finish(self) -> Manifest:
        """Writes the manifest, once every process has written its shards; only the main process calls it.

        Raises:
            StoreError: where a shard is missing.
        """
        shards = [self._record(*piece) for piece in self._all()]
        if None in shards:
            raise StoreError(
                f"{self.folder}: {shards.count(None)} of {len(shards)} shards are missing; run the same `limbeck label` again."
            )
        manifest = replace(self.plan, shards=tuple(shard for shard in shards if shard is not None))
        manifest.write(self.folder)
        for path in (self.folder / PARTS).iterdir():
            path.unlink()
        (self.folder / PARTS).rmdir()
        return manifest
