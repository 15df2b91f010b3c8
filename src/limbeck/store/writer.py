"""Writes a store shard by shard; whatever happens, the next attempt goes on after the last whole shard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from ..types import Signals
from .manifest import MANIFEST, Manifest, Shard, StoreError
from .places import Place, place
from .reader import LOGITS
from .shards import check_size, verify_shard, write_shard

PARTS, PLAN = "parts", "plan.json"


def record_name(view: int, start: int) -> str:
    """File of the record of a shard that is whole."""
    return f"{PARTS}/view{view:04d}-{start:012d}.json"


class StoreWriter:
    """A store that is being made, by one process or several.

    Shard number n of the plan is written by process `n % world`. What is whole is known by a small record beside it, which is written
    after the shard; the manifest is written last of all and the records are removed.

    Args:
        folder: where the store will lie; a path, or an address of fsspec.
        plan: the manifest without shards.
        shard_size: examples of one shard.
        rank: number of this process.
        world: number of processes.

    Raises:
        StoreError: where the folder holds the beginning of another store.
    """

    def __init__(self, folder: str | Path | Place, plan: Manifest, *, shard_size: int, rank: int = 0, world: int = 1) -> None:
        self.place = place(folder)
        self.plan, self.shard_size, self.rank, self.world = plan, shard_size, rank, world
        self._codecs = {} if plan.language else {name: signal.build() for name, signal in plan.signals.items()}
        self._agree()

    def _agree(self) -> None:
        """An interrupted store may only be continued with the plan that it was begun with."""
        name = f"{PARTS}/{PLAN}"
        mine = json.loads(json.dumps({**self.plan.record(), "shard_size": self.shard_size}))
        try:
            theirs = json.loads(self.place.read(name))
        except FileNotFoundError:  # every process may write it: they all write the same
            self.place.write(name, json.dumps(mine, indent=1) + "\n")
            return
        except ValueError as error:
            raise StoreError(f"{self.place.at(name)}: cannot be read: {error}. Remove {self.place} to begin anew.") from None
        known = theirs if isinstance(theirs, dict) else {}
        differs = [key for key in mine if key != "about" and mine[key] != known.get(key)]
        if differs:
            raise StoreError(
                f"{self.place}: an unfinished store of something else lies here ({', '.join(differs)} differ). Remove it or choose --out."
            )

    def _all(self) -> Iterator[tuple[int, int, int]]:
        for view in range(self.plan.views):
            for start in range(0, self.plan.examples, self.shard_size):
                yield view, start, min(start + self.shard_size, self.plan.examples)

    def missing(self) -> list[tuple[int, int, int]]:
        """View, first example and end of every shard that this process has still to write."""
        own = [piece for number, piece in enumerate(self._all()) if number % self.world == self.rank]
        return [piece for piece in own if self._record(*piece, check=verify_shard) is None]

    def _record(self, view: int, start: int, stop: int, *, check: Callable[[Place, Shard], None]) -> Shard | None:
        try:
            shard = Shard(**json.loads(self.place.read(record_name(view, start))))
            check(self.place, shard)
        except (FileNotFoundError, ValueError, TypeError, StoreError):
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
        self.keep(view, start, stop, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def keep(self, view: int, start: int, stop: int, arrays: Mapping[str, Tensor], *, count: int | None = None) -> None:
        """Writes one shard of whole arrays; `count` examples, or a row for each in every array."""
        shard = write_shard(self.place, view, start, arrays, count=count)
        if shard.stop != stop:
            raise StoreError(f"{self.place}: the shard at {start} was to end at {stop}, its batches end at {shard.stop}.")
        self.place.write(record_name(view, start), json.dumps(asdict(shard)))

    def finish(self) -> Manifest:
        """Writes the manifest, once every process has written its shards; only the main process calls it.

        Raises:
            StoreError: where a shard is missing.
        """
        shards = [self._record(*piece, check=check_size) for piece in self._all()]
        if None in shards:
            raise StoreError(f"{self.place}: {shards.count(None)} of {len(shards)} shards are missing; run the same `limbeck label` again.")
        manifest = self._whole(tuple(shard for shard in shards if shard is not None))
        self.place.write(MANIFEST, manifest.text())
        tidy(self.place)
        return manifest

    def _whole(self, shards: tuple[Shard, ...]) -> Manifest:
        """The manifest of the finished store."""
        return replace(self.plan, shards=shards)


def tidy(where: Place) -> None:
    """Removes what only an unfinished store needs; safe to repeat where a process was killed over it."""
    where.remove(PARTS)
    where.clear()
