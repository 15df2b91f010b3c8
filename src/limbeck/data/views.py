"""Further views of every example: augmented in another way, larger or smaller, other columns, another modality.

All views of an example are made from the same row of the source. What is random in one is a function of seed, epoch and the example's
index, as everywhere, and of the view's name: a recipe that adds a view changes nothing of what the others show.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, UnknownName
from ..types import LanguageKind
from .sources.base import Kind, Pool
from .stores import Store, TensorStore
from .transforms.base import Draws, Transform


@dataclass(frozen=True)
class ViewRequest:
    """What a view shows; the plain form of an entry of a recipe's `data.views`."""

    transforms: Sequence[str | Mapping[str, Any]] = ()
    """Training-time augmentation of this view, in order; none leaves the examples as they are."""
    size: int | None = None
    """Images are scaled to this height and width; `data.size` where absent."""
    columns: Sequence[str] = ()
    """Tables: only these columns, in this order; all where empty."""
    array: str | None = None
    """Another array of an `npz` source: another modality."""
    draws: Literal["own", "shared"] = "own"
    """Random numbers of its own, or those of the examples' own augmentation."""
    prompt: str | None = None
    """Language: template of the prompt; the prompt itself where absent."""
    task: LanguageKind | None = None
    """Language: how it is read; as the task says where absent."""
    max_length: int | None = None
    """Language: most tokens."""


@dataclass(frozen=True)
class View:
    """What can be seen of the rows of a source.

    Attributes:
        store: the inputs of the whole source, as this view shows them.
        transforms: augmentation.
        lane: tells its random numbers apart from those of other views; 0 for the examples' own.
    """

    store: Store
    transforms: tuple[Transform, ...] = ()
    lane: int = 0

    def inputs(self, rows: Tensor, places: Tensor, key: tuple[int, int | NDArray[np.int64]] | None) -> Any:
        """The view of some examples.

        Args:
            rows: their rows in the store, int64.
            places: their positions in the data set, from which random numbers are made.
            key: seed and number of the augmentation (or one for each example); None shows the examples as they are.
        """
        inputs = self.store.gather(rows)
        if key is None or not self.transforms:
            return inputs
        counters = places.numpy().astype(np.int64, copy=False)
        for position, transform in enumerate(self.transforms):
            inputs = transform.apply(inputs, Draws(*key, counters, self.lane + position))
        return inputs


def lane_of(name: str, request: ViewRequest) -> int:
    """The lane of a view's random numbers."""
    return 0 if request.draws == "shared" else (1 + zlib.crc32(name.encode())) << 16


def view_store(name: str, request: ViewRequest, pool: Pool, store: Store, size: int | None) -> tuple[Kind, Store]:
    """What a view shows, before augmentation.

    Args:
        name: of the view, for messages.
        request: what it shows.
        pool: the source.
        store: the examples' own inputs, encoded.
        size: `data.size`, the side of the examples' own images.

    Raises:
        DataError: where the source cannot show this.
        UnknownName: no such column or array.
    """
    where, kind = f"data.views.{name}", pool.kind
    if request.array is not None:
        if request.array not in pool.further:
            raise UnknownName(f"further array of the source in {where}.array", request.array, pool.arrays, "Only npz sources have any.")
        kind, store = pool.further[request.array]
    elif request.size is not None and isinstance(pool.inputs, Store):
        store = pool.inputs
    if request.size is not None:
        if kind != "image":
            raise DataError(f"{where}.size is for images, and this view shows {kind} data. Remove it.")
        store = scaled(store, request.size)
    elif request.array is not None and kind == "image" and size is not None:
        store = scaled(store, size)
    if request.columns:
        if kind != "tabular" or not isinstance(store, TensorStore):
            raise DataError(f"{where}.columns is for tables, and this view shows {kind} data. Remove it.")
        store = store.picked(request.columns, where)
    return kind, store


def scaled(store: Store, size: int) -> Store:
    """Images of `size` by `size`."""
    return store.resized(size)


def check_transforms_fit(name: str, transforms: Sequence[Transform], entries: Sequence[str | Mapping[str, Any]], kind: Kind) -> None:
    """Transforms are for the kind of data that they meet.

    Raises:
        DataError: for the first one that is not.
    """
    for entry, transform in zip(entries, transforms, strict=True):
        if kind not in transform.kinds:
            called = entry if isinstance(entry, str) else next(iter(entry))
            raise DataError(f"transform {called!r} is for {' and '.join(transform.kinds)} data, {name} is {kind} data.")
