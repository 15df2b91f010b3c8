"""Writes a store of what a language model says: documents in the order of their keys, whatever the order of the data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ops.projection import narrowed
from ..tokens import Hidden, Logits, Projection, Tokens, part_of
from .distortion import FIELDS, distortion
from .manifest import TOKENS, Beside, Manifest, Shard
from .places import Place
from .shards import checksum, open_shard, write_arrays
from .token_shards import MEASURED, Piece, assembled, check_bytes
from .writer import StoreWriter, record_name

HEAD = "head.safetensors"
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class DocumentWriter(StoreWriter):
    """A store of documents that is being made; see `StoreWriter`.

    Args:
        folder: where the store will lie; a path, or an address of fsspec.
        plan: the manifest without shards; `examples` is the number of documents.
        keys: of every document of every view, `(views, documents, 32)`, each view's in rising order.
        shard_size: documents of one shard.
        rank: number of this process.
        world: number of processes.

    Raises:
        StoreError: where the folder holds the beginning of another store.
    """

    def __init__(
        self,
        folder: str | Path | Place,
        plan: Manifest,
        keys: Sequence[NDArray[np.uint8]],
        *,
        shard_size: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(folder, plan, shard_size=shard_size, rank=rank, world=world)
        signal = plan.signals[TOKENS]
        self._keys, self.codec, self.vocabulary = keys, signal.build_tokens(), signal.shape[0]
        self._headed = not self.codec.head

    def keep_head(self, head: Projection) -> None:
        """Writes the head that hidden states are made for, unless it is there; every process does so before its first shard."""
        if not self._headed and not self.place.has(HEAD):
            write_arrays(self.place, HEAD, head_arrays(narrowed(head, self.vocabulary)))
        self._headed = True

    def rows(
        self, view: int, said: Tokens, targets: Tensor, place: NDArray[np.int64], within: NDArray[np.int64], *, every: int
    ) -> tuple[Piece, Tensor]:
        """Encoded rows and sums of what was measured on some of them.

        Args:
            view: number of the augmentation.
            said: what the teacher says of the rows.
            targets: the token that is to be predicted at each, `(rows,)`.
            place: number of each row's document in the order of the store, `(rows,)`.
            within: which trained token of its document each is.
            every: of so many rows one is measured, about; which, depends on the documents' contents only.
        """
        arrays = self.codec.encode(said, self.vocabulary, self._uniforms(view, place, within))
        first = place // self.shard_size * self.shard_size
        piece = Piece(place - first, within, {**arrays, "check": check_bytes(targets)})
        return piece, self._measured(view, said, targets, place, within, every)

    def _uniforms(self, view: int, place: NDArray[np.int64], within: NDArray[np.int64]) -> Tensor:
        """Random numbers that depend on the seed, the contents of the document and the place in it only."""
        count = self.codec.uniforms
        drawn = torch.empty(len(place), count, dtype=torch.float64)
        if not count:
            return drawn
        seed = int(self.codec.fields().get("seed", 0))
        for document in np.unique(place).tolist():
            rows = np.flatnonzero(place == document)
            low, high = (int(word) for word in self._keys[view][document, :16].view("<u8"))
            generator = np.random.Generator(np.random.Philox(key=[low ^ seed, high]))
            drawn[rows] = torch.from_numpy(generator.random((int(within[rows].max()) + 1, count))[within[rows]])
        return drawn

    def _measured(
        self, view: int, said: Tokens, targets: Tensor, place: NDArray[np.int64], within: NDArray[np.int64], every: int
    ) -> Tensor:
        """Sums over the sampled rows, in the order of `FIELDS`."""
        sums = torch.zeros(len(FIELDS), dtype=torch.float64)
        sums[0] = len(place)
        if not isinstance(said, Hidden | Logits):
            return sums
        number = self._keys[view][place, :8].copy().view("<u8").reshape(-1) + within.astype(np.uint64)
        picked = np.flatnonzero((number * _SPREAD >> np.uint64(32)) % np.uint64(every) == 0)
        if not len(picked):
            return sums
        where = torch.from_numpy(picked)
        some = part_of(said, where.to((said.hidden if isinstance(said, Hidden) else said.logits).device))
        uniforms = self._uniforms(view, place[picked], within[picked])
        return sums + distortion(some, targets.cpu()[where], self.codec, self.vocabulary, uniforms)

    def shard(self, view: int, start: int, stop: int, pieces: Sequence[Piece], measured: Tensor) -> None:
        """Writes one shard from all its rows, in any order.

        Raises:
            StoreError: where a document's tokens are not there once each.
        """
        arrays = assembled(pieces, self._keys[view][start:stop], self.codec, self.vocabulary, measured)
        self.place.write(_sums_name(view, start), json.dumps(measured.tolist()))
        self.keep(view, start, stop, arrays, count=stop - start)

    def _sums(self, shard: Shard) -> Tensor:
        try:
            return torch.tensor(json.loads(self.place.read(_sums_name(shard.view, shard.start))), dtype=torch.float64)
        except (FileNotFoundError, ValueError):
            column = open_shard(self.place.fetch(shard.file), shard.file)[MEASURED]
            return torch.frombuffer(bytearray(column.flat), dtype=torch.float64)

    def _whole(self, shards: tuple[Shard, ...]) -> Manifest:
        sums = torch.zeros(len(FIELDS), dtype=torch.float64)
        for shard in shards:
            sums += self._sums(shard)
        files = ()
        if self.codec.head:
            path = self.place.fetch(HEAD)
            files = (Beside(HEAD, path.stat().st_size, checksum(path)),)
        return replace(self.plan, shards=shards, files=files, measured=summary(sums))


def _sums_name(view: int, start: int) -> str:
    """File of the sums of a shard, beside its record, so that a shard that lies far away is not fetched for them."""
    return record_name(view, start).removesuffix(".json") + ".measured"


def head_arrays(head: Projection) -> dict[str, Tensor]:
    """The head as arrays of a file."""
    found = {"weight": head.weight.detach().cpu(), "scale": torch.tensor([head.scale], dtype=torch.float64)}
    if head.bias is not None:
        found["bias"] = head.bias.detach().cpu()
    if head.cap is not None:
        found["cap"] = torch.tensor([head.cap], dtype=torch.float64)
    return found


def head_of(arrays: Mapping[str, Tensor]) -> Projection:
    """The head from the arrays of its file."""
    cap = arrays.get("cap")
    return Projection(arrays["weight"], arrays.get("bias"), float(arrays["scale"]), None if cap is None else float(cap))


def summary(sums: Tensor) -> dict[str, float]:
    """What the manifest says of the sums: counts, and means over the sample; what is infinite is left out."""
    counts = {name: int(value) for name, value in zip(FIELDS[:2], sums.tolist(), strict=False)}
    if not counts[FIELDS[1]]:
        return {FIELDS[0]: counts[FIELDS[0]]}
    means = {name: value / counts[FIELDS[1]] for name, value in zip(FIELDS[2:], sums.tolist()[2:], strict=True)}
    return {**counts, **{name: value for name, value in means.items() if math.isfinite(value)}}
