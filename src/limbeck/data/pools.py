"""Adds the examples of a second, unlabelled source to those of the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from .hashing import permutation
from .sources.base import Column, Pool
from .stores import Store, TensorStore
from .views import scaled

_POOL = 5  # the purpose of the order, beside those of `split`


@dataclass(frozen=True)
class PoolRequest:
    """A second source, whose labels are not read; the plain form of a recipe's `data.pool`."""

    source: str
    args: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    """Most examples of it, at random."""


class Joined(Store):
    """Two stores, one after the other."""

    def __init__(self, first: Store, second: Store) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.first.shape

    def gather(self, rows: Tensor) -> Tensor:
        """The inputs at `rows`, from whichever store holds them."""
        mine = rows < len(self.first)
        out = torch.empty((len(rows), *self.shape))
        for store, held, start in ((self.first, mine, 0), (self.second, ~mine, len(self.first))):
            if held.any():
                out[held] = store.gather(rows[held] - start)
        return out

    def content(self, rows: Tensor) -> Iterator[bytes]:
        """The content of both, and which rows lie in which."""
        mine = rows < len(self.first)
        yield mine.numpy().tobytes()
        yield from self.first.content(rows[mine])
        yield from self.second.content(rows[~mine] - len(self.first))

    def resized(self, size: int) -> Joined:
        """Both, scaled."""
        return Joined(scaled(self.first, size), scaled(self.second, size))


def pool_rows(pool: Pool, limit: int | None, seed: int) -> NDArray[np.int64]:
    """Which rows of a pool are used: those of its training part, at most `limit`."""
    rows = pool.parts["train"]
    if limit is None or limit >= len(rows):
        return rows
    return np.sort(rows[permutation(len(rows), seed, _POOL)[:limit]])


def size_of(pool: Pool) -> int:
    """Number of its rows, of all parts together."""
    inputs = pool.inputs
    return len(next(iter(inputs.values()))) if isinstance(inputs, Mapping) else len(inputs)


def join(first: Pool, second: Pool, where: str) -> Pool:
    """The first pool with the inputs of the second after its own; labels and parts stay those of the first.

    Args:
        where: names the second source in messages.

    Raises:
        DataError: where the inputs do not go together.
    """
    if first.kind != second.kind:
        raise DataError(f"data.pool: {where} gives {second.kind} data, the training data are {first.kind} data.")
    if first.further:
        raise DataError("data.pool: a pool has no further arrays, so no view may show one (data.views.NAME.array).")
    a, b = first.inputs, second.inputs
    if isinstance(a, Store) and isinstance(b, Store):
        return replace(first, inputs=_stores(a, b, where))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return replace(first, inputs=_columns(a, b, where))
    if isinstance(a, Sequence) and isinstance(b, Sequence):
        texts: Any = [*a, *b]
        return replace(first, inputs=texts)
    raise DataError(f"data.pool: {where} keeps its inputs in another form than the training data do. Use a source of the same kind.")


def _stores(first: Store, second: Store, where: str) -> Store:
    if len(first.shape) == 3 and first.shape[1:] != second.shape[1:] and first.shape[1] == first.shape[2]:
        second = scaled(second, first.shape[1])
    if first.shape != second.shape:
        raise DataError(f"data.pool: {where} has inputs of shape {second.shape}, the training data of {first.shape}. Set data.size.")
    if isinstance(first, TensorStore) and isinstance(second, TensorStore) and first.values.dtype == second.values.dtype:
        return TensorStore(torch.cat([first.values, second.values]), first.columns)
    return Joined(first, second)


def _columns(first: Mapping[str, Column], second: Mapping[str, Column], where: str) -> dict[str, Column]:
    if first.keys() != second.keys():
        different = sorted(first.keys() ^ second.keys())[0]
        raise DataError(f"data.pool: {where} must have the columns of the training data; {different!r} is in one of them only.")
    return {name: _column(column, second[name], name, where) for name, column in first.items()}


def _column(first: Column, second: Column, name: str, where: str) -> Column:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.concatenate([first, second])
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    raise DataError(f"data.pool: the column {name!r} holds numbers in one of the training data and {where}, and texts in the other.")
