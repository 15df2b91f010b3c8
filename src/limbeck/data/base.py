"""What the rest of Limbeck sees of data: the request, the examples of a split, the splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UnknownName
from ..types import Batch, DataInfo
from .joint import DatasetRequest
from .language.request import TokenRequest
from .pools import PoolRequest
from .views import View, ViewRequest

if TYPE_CHECKING:
    from .stores import Store
    from .transforms.base import Transform


@dataclass(frozen=True)
class DataRequest:
    """Where examples come from and how they are cut; the plain form of a recipe's `data`."""

    source: str
    """`sklearn:NAME`, `torchvision:NAME`, `folder:PATH`, `idx:PATH`, `npz:PATH`, `csv:PATH`, `jsonl:PATH`, `parquet:PATH`,
    `text:PATH`, `squad:PATH`, `python:topics`, `hf:ID_OR_PATH` or `module:callable`."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the source."""
    valid: float = 0.15
    """Share held out to pick checkpoints: of all examples, or of the training part where the source has a test part of its own."""
    test: float = 0.2
    """Share held out for the end, where the source has no test part of its own."""
    folds: int | None = None
    """Number of equal parts of which one is the test part, instead of `test`."""
    fold: int = 1
    """Which of them, from 1."""
    split_seed: int = 0
    """Seed of the cut, of `limit` and of `label_fraction`."""
    group: str | None = None
    """Name of the groups of examples that are never divided between two parts."""
    classes: Sequence[str] = ()
    """Names of the classes that training and validation are limited to; all where empty."""
    label_fraction: float = 1.0
    """Share of the training examples that keep their label."""
    wrong: float = 0.0
    """How likely it is that the label of a training example is wrong."""
    unlabelled: bool = True
    """Keep the training examples without a label."""
    limit: int | None = None
    """Most training examples."""
    size: int | None = None
    """Images are scaled to this height and width."""
    transforms: Sequence[str | Mapping[str, Any]] = ()
    """Training-time augmentation, in order."""
    tokenizer: str | None = None
    """Text: hub id or local folder of the tokenizer."""
    max_length: int = 128
    """Text: longest sequence in tokens."""
    tokens: TokenRequest = field(default_factory=TokenRequest)
    """What only language models read."""
    views: Mapping[str, ViewRequest] = field(default_factory=dict)
    """Further views of every example, by name."""
    pool: PoolRequest | None = None
    """A second source, added to the training examples without labels."""
    datasets: Mapping[str, DatasetRequest] = field(default_factory=dict)
    """Several data sets by name, read instead of `source`."""
    only: Sequence[str] = ()
    """Names of the data sets that training and validation are limited to; all where empty."""
    select: str | None = None
    """File that lists which training examples are kept."""
    test_transforms: Sequence[str | Mapping[str, Any]] = ()
    """What is done to the test examples, the same way every time."""


@dataclass(frozen=True)
class Domains:
    """What domain each example is from."""

    names: tuple[str, ...]
    numbers: Tensor
    """Of every example, `(examples,)`, int64."""


class Examples(Dataset[Batch]):
    """The examples of one split.

    A list of indices gives one batch in one call; `DataLoader` uses that by itself.

    Args:
        store: the inputs of the whole source.
        labels: one (row of) label(s) an example of this split, `IGNORE` or NaN where there is none.
        rows: which rows of the store are in this split, int64; all in order where absent.
        transforms: augmentation, applied only in what `augmented` gives.
        views: further views of the same rows, by name; their augmentation likewise.
        groups: number of the data set of each example of this split, int64, where there are several; batches hold it as `dataset`.
        among: all those of which these are some, such as the candidates of a selection. An example's augmentation follows from its place
            among them, so that it is the same in every selection.
    """

    domains: Domains | None = None
    """Texts: the domain of each, where the data name it."""

    def __init__(
        self,
        store: Store,
        labels: Tensor,
        rows: Tensor | None = None,
        transforms: Sequence[Transform] = (),
        views: Mapping[str, View] | None = None,
        groups: Tensor | None = None,
        among: Examples | None = None,
    ) -> None:
        self.store, self.labels = store, labels
        self.rows = torch.arange(len(store)) if rows is None else rows
        self.transforms = tuple(transforms)
        self.views = dict(views or {})
        self.groups = groups
        self.among = among
        self.places = torch.arange(len(labels)) if among is None else _places(self.rows, among.rows)
        """Position of each example among all those of which these are some, int64."""
        self._key: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The examples at `indices` (0 to `len - 1`), in that order, as one batch."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        if self._key is not None:
            return self.shown(index, *self._key)
        inputs, views = self._inputs(index, None)
        return Batch(inputs, self.labels.index_select(0, index), index, self._extra(index), views=views)

    def shown(self, index: Tensor, seed: int, epoch: int | NDArray[np.int64]) -> Batch:
        """The augmented examples at `index`, as one batch.

        Args:
            index: `(batch,)`, int64.
            seed: of the augmentation.
            epoch: number of the augmentation, or one for each example, `(batch,)`.
        """
        inputs, views = self._inputs(index, (seed, epoch))
        number = epoch if isinstance(epoch, int) else torch.from_numpy(epoch)
        return Batch(inputs, self.labels.index_select(0, index), index, self._extra(index), epoch=number, views=views)

    def _extra(self, index: Tensor) -> dict[str, Any]:
        return {} if self.groups is None else {"dataset": self.groups.index_select(0, index)}

    def _inputs(self, index: Tensor, key: tuple[int, int | NDArray[np.int64]] | None) -> tuple[Any, dict[str, Any]]:
        rows = self.rows.index_select(0, index)
        places = self.places.index_select(0, index)
        views = {name: view.inputs(rows, places, key) for name, view in self.views.items()}
        return View(self.store, self.transforms).inputs(rows, places, key), views

    def seen(self, view: str | None) -> View:
        """What a model sees of the examples: their inputs, or a further view of them.

        Raises:
            UnknownName: where the data have no such view.
        """
        if view is None:
            return View(self.store, self.transforms)
        if view not in self.views:
            raise UnknownName("view of the data", view, self.views)
        return self.views[view]

    @property
    def key(self) -> tuple[int, int] | None:
        """Seed and number of the augmentation that is shown; None for the examples as they are."""
        return self._key

    def fingerprint(self, view: str | None = None) -> str:
        """SHA-256 of the inputs (or of a view), in the order of the examples and before any augmentation; of files, names and sizes."""
        store = self.seen(view).store
        digest = hashlib.sha256(f"{len(self)} {store.shape}".encode())
        for part in store.content(self.rows):
            digest.update(part)
        return digest.hexdigest()

    def augmented(self, seed: int, epoch: int) -> Examples:
        """The same examples, whose augmentation is a pure function of `seed`, `epoch` and each example's place.

        The order, the composition of the batches and the number of workers and processes change nothing.
        """
        view = Examples(self.store, self.labels, self.rows, self.transforms, self.views, self.groups, self.among)
        view._key = (seed, epoch)
        return view


def _places(rows: Tensor, among: Tensor) -> Tensor:
    """Where each of `rows` stands in `among`, which holds all of them once."""
    order = among.argsort()
    return order[torch.searchsorted(among[order], rows)]


@dataclass(frozen=True)
class Splits:
    """A data set, cut."""

    train: Examples
    valid: Examples | None
    """None where nothing is held out for it."""
    test: Examples
    info: DataInfo
    notes: tuple[str, ...] = ()
    """What was done to the data that its owner should know, such as filled-in missing values; one sentence each."""
    kept: float = 1.0
    """Share of the training examples (with the pool) that a selection keeps."""
    pooled: int = 0
    """Number of examples of the pool; they come last, where nothing is selected."""
    tokenizer: Any = None
    """Language: the tokenizer, of transformers."""
    questions: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Language, where replies are written anew: prompt and reply of every training row of the source, as they stand there."""
