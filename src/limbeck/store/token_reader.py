"""Reads what a language model says of any tokens of any documents, in any order; documents are found by their contents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from ..documents import Documents
from ..tokens import Hidden, Projection, Tokens, TopK, part_of, rows_of
from .manifest import StoreError
from .places import Place
from .reader import Opened
from .shards import OpenShard
from .token_shards import BYTES, CHECK, KEY_TYPE, STOP, TOKENS, bounds, check_bytes, keys_of
from .token_writer import HEAD, head_of
from .tokens.base import STREAM

_AT_ONCE = 4096


class TokenReader(Opened):
    """An open store of documents.

    Nothing of the index is held in memory but a key for each shard: keys lie sorted in the shards and are searched through the memory map.

    Args:
        folder: where it lies; a path, or an address of fsspec.
        verify: compare every checksum first.

    Raises:
        StoreError: where it is unfinished or damaged, or holds signals of examples.
    """

    def __init__(self, folder: str | Path | Place, *, verify: bool = True) -> None:
        super().__init__(folder, verify=verify)
        if not self.manifest.language:
            raise StoreError(f"{self.place}: signals of examples lie here, and what a language model says of tokens is asked for.")
        signal = self.manifest.signals[TOKENS]
        self.codec, self.vocabulary = signal.build_tokens(), signal.shape[0]
        self._layout = self.codec.layout(self.vocabulary, signal.shape[1])
        self.head: Projection | None = head_of(load_file(self.place.fetch(HEAD))) if self.codec.head else None
        self._firsts: dict[int, NDArray[np.bytes_]] = {}

    def check_vocabulary(self, vocabulary: int) -> None:
        """Refuses a store whose teacher had other tokens.

        Raises:
            StoreError: with both numbers.
        """
        if vocabulary != self.vocabulary:
            raise StoreError(
                f"{self.place}: the store was made for a vocabulary of {self.vocabulary:,} tokens, the data have {vocabulary:,}. "
                "Teacher and student must have the same tokenizer; make the store anew with `limbeck label`."
            )

    def check_teacher(self, teacher: str | None) -> None:
        """Refuses a store that another teacher made.

        Args:
            teacher: SHA-256 of its weights; None where it is not known.

        Raises:
            StoreError: with both hashes.
        """
        if teacher is not None and teacher != self.manifest.key.teacher:
            raise StoreError(
                f"{self.place}: this store does not belong to the recipe: the teacher's weights (store {self.manifest.key.teacher}, recipe "
                f"{teacher}) differ. Make one with `limbeck label`."
            )

    def meta(self, rows: int) -> Tokens:
        """What is read of so many tokens, without values."""
        arrays = {name: torch.zeros(0, *shape, dtype=dtype) for name, (dtype, shape) in self._layout.items()}
        arrays[STREAM] = torch.zeros(0, dtype=torch.uint8)
        found = self.codec.decode(arrays, self.vocabulary, self.head)
        if isinstance(found, Hidden):
            bias = found.head.bias
            head = replace(found.head, weight=found.head.weight.to("meta"), bias=None if bias is None else bias.to("meta"))
            return Hidden(found.hidden.new_empty(rows, found.hidden.shape[1], device="meta"), head)
        ids, values = (value.new_empty(rows, *value.shape[1:], device="meta") for value in rows_of(found))
        return replace(found, ids=ids, log_probs=values) if isinstance(found, TopK) else replace(found, ids=ids, weights=values)

    def check_documents(self, documents: Documents, view: int = 0) -> None:
        """Refuses data of which a document is not in the store.

        Raises:
            StoreError: with how many, and the first.
        """
        absent, first = 0, -1
        for start in range(0, len(documents), _AT_ONCE):
            numbers = np.arange(start, min(start + _AT_ONCE, len(documents)))
            numbers = numbers[documents.lengths(numbers) > 0]
            lost = numbers[self._located(documents.keys(numbers), view)[0] < 0]
            first = int(lost[0]) if absent == 0 and len(lost) else first
            absent += len(lost)
        if absent:
            raise StoreError(self._absent(absent, len(documents), f"number {first} of the data"))

    def _absent(self, count: int, whole: int, first: str) -> str:
        return (
            f"{self.place}: {count:,} of {whole:,} documents are not in the store (the first: {first}). It knows documents by their tokens "
            "and by which of them are trained; it was made from other texts, or with another tokenizer, chat template or max_length. "
            "Make it anew with `limbeck label`."
        )

    def _located(self, keys: NDArray[np.uint8], view: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shard of each key (-1 where there is none) and number of the document in it."""
        shards = self._mapped(view)
        if view not in self._firsts:
            self._firsts[view] = np.array([bytes(keys_of(shard)[:1].tobytes()) for shard in shards], dtype=KEY_TYPE)
        wanted = np.ascontiguousarray(keys).view(KEY_TYPE).reshape(-1)
        shard = np.searchsorted(self._firsts[view], wanted, side="right") - 1
        # Equal documents may lie on both sides of a border; any of them serves.
        place = np.zeros(len(wanted), dtype=np.int64)
        for number in np.unique(shard[shard >= 0]).tolist():
            rows = np.flatnonzero(shard == number)
            own = keys_of(shards[number])
            place[rows] = np.searchsorted(own, wanted[rows]).clip(max=len(own) - 1)
            shard[rows[own[place[rows]] != wanted[rows]]] = -1
        return shard, place

    def read(self, keys: NDArray[np.uint8], owner: Tensor, within: Tensor, labels: Tensor, view: int = 0) -> Tokens:
        """What is stored of some tokens, a row each.

        Args:
            keys: of the documents, `(documents, 32)`.
            owner: which of them each row belongs to, `(rows,)`.
            within: which trained token of it each row is, `(rows,)`.
            labels: the token that is to be predicted at each row, `(rows,)`.
            view: number of the stored augmentation.

        Raises:
            StoreError: where a document is missing, or a row was stored for another target.
        """
        shard, place = self._located(keys, view)
        if lost := np.flatnonzero(shard < 0).tolist():
            raise StoreError(self._absent(len(lost), len(keys), f"the one with the key {keys[lost[0]].tobytes().hex()[:16]}"))
        shards = [self._mapped(view)[number] for number in shard.tolist()]
        spans = [bounds(own, STOP, np.array([number]))[0] for own, number in zip(shards, place.tolist(), strict=True)]
        lengths = np.array([stop - start for start, stop in spans], dtype=np.int64)
        owners, inner = owner.cpu().numpy(), within.cpu().numpy()
        rows = torch.from_numpy((np.cumsum(lengths) - lengths)[owners] + inner)
        if (beyond := np.flatnonzero(inner >= lengths[owners])).size:
            raise self._other(keys, owners, inner, beyond)
        arrays = {name: _spans(shards, spans, f"{TOKENS}/{name}") for name in self._layout}
        if self.codec.streams:
            cuts = [bounds(own, BYTES, np.array([number]))[0] for own, number in zip(shards, place.tolist(), strict=True)]
            arrays[STREAM] = _spans(shards, cuts, f"{TOKENS}/{STREAM}")
        check = _spans(shards, spans, CHECK)[rows]
        if (wrong := np.flatnonzero((check != check_bytes(labels)).numpy())).size:
            raise self._other(keys, owners, inner, wrong)
        found = self.codec.decode(arrays, self.vocabulary, self.head)
        return found if len(rows) == int(lengths.sum()) and bool((rows == torch.arange(len(rows))).all()) else part_of(found, rows)

    def _other(self, keys: NDArray[np.uint8], owner: NDArray[np.int64], within: NDArray[np.int64], wrong: NDArray[np.int64]) -> StoreError:
        first = int(wrong[0])
        return StoreError(
            f"{self.place}: {len(wrong):,} of {len(owner):,} tokens were stored for other targets than the batch has (the first: token "
            f"{int(within[first])} of the document with the key {keys[owner[first]].tobytes().hex()[:16]}). The signals are shifted, or "
            "belong to other labels; make the store anew with `limbeck label`."
        )


def _spans(shards: list[OpenShard], spans: list[NDArray[np.int64]], name: str) -> Tensor:
    """Rows of one array of several documents, one after another."""
    column = shards[0][name]
    size = column.rows.shape[1]
    joined = bytearray().join([own[name].flat[start * size : stop * size] for own, (start, stop) in zip(shards, spans, strict=True)])
    count = sum(int(stop - start) for start, stop in spans)
    if not joined:
        return torch.empty(count, *column.shape, dtype=column.dtype)
    return torch.frombuffer(joined, dtype=column.dtype).view(count, *column.shape)
