"""Which examples go into which update, and the loaders that fetch them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from ..errors import DataError
from ..types import Batch
from .base import Examples
from .compose import Composed, Composition, Part, pair
from .hashing import permutation
from .joint import spread


class EpochPlan:
    """The updates of one epoch.

    An update's examples are the same for every number of processes and of accumulation steps: the order depends on
    `seed` and `epoch` only, is cut into updates of `batch_size`, and each update is then divided among the processes and
    within a process among the micro-batches, as evenly as possible. The last incomplete update is dropped, unless there
    is no other: then it holds all examples.

    Args:
        size: number of examples.
        batch_size: examples of one update, over all processes and accumulation steps together.
        accumulate: micro-batches of one process in an update.
        rank: number of this process.
        world: number of processes.
        crops: how often each example comes in an update, as different augmentations next to each other; `batch_size` counts them all.
        seed: seed of the order.
        epoch: number of the epoch, from 0.
        shuffle: false keeps the order of the data.

    Raises:
        DataError: where an update has fewer examples than `world * accumulate`.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        crops: int = 1,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
    ) -> None:
        if size < 1:
            raise DataError("the training split is empty; use more data, a smaller data.split or a larger data.limit.")
        self.size, self.batch_size, self.accumulate, self.rank, self.world = size, batch_size, accumulate, rank, world
        self.seed, self.epoch, self.shuffle, self.crops = seed, epoch, shuffle, crops
        self.groups: NDArray[np.int64] | None = None
        self.order: NDArray[np.int64] | None = None
        self.per_update = min(size, max(batch_size // crops, 1))
        if (shown := self.per_update * crops) < world * accumulate:
            raise DataError(
                f"an update of {shown} examples (train.batch_size {batch_size}, {size} training examples) cannot be divided "
                f"into {accumulate} accumulation steps on {world} process(es). "
                "Lower train.accumulate, raise train.batch_size or use fewer processes."
            )

    def over(self, groups: NDArray[np.int64] | None) -> EpochPlan:
        """The same plan, whose updates all hold examples of every group, in proportion to their sizes.

        Args:
            groups: number of the group (the data set) of every example; None changes nothing.

        Raises:
            DataError: where an update is too small to hold one of every group.
        """
        if groups is not None:
            least = int(np.unique(groups, return_counts=True)[1].min())
            if least * self.per_update < self.size:
                raise DataError(
                    f"an update of {self.per_update * self.crops} examples cannot hold one of every data set: the smallest has {least} of "
                    f"{self.size} training examples. Raise train.batch_size to {-(-self.size // least) * self.crops} or more, or use less "
                    "of the others."
                )
        self.groups = groups
        return self

    def drawn(self, order: NDArray[np.int64]) -> EpochPlan:
        """The same plan over just these examples, in this order; an example may come more than once."""
        self.order = order
        return self

    @property
    def updates(self) -> int:
        """Number of updates in the epoch, or in the order that was given."""
        return (self.size if self.order is None else len(self.order)) // self.per_update

    def micro_batches(self, start_update: int = 0) -> list[list[int]]:
        """Indices of this process's micro-batches from update `start_update` on: `accumulate` lists an update, none empty."""
        return [part.tolist() for part in self.parts(start_update)]

    def parts(self, start_update: int = 0) -> list[NDArray[np.int64]]:
        """The same as arrays, as the loader wants them."""
        parts: list[NDArray[np.int64]] = []
        for _, whole in self.whole(start_update):
            parts += self.divided(whole)
        return parts

    def whole(self, start_update: int = 0) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Number and examples of every update from `start_update` on, over all processes."""
        order = permutation(self.size, self.seed, self.epoch) if self.shuffle else np.arange(self.size)
        order = order if self.order is None else self.order
        order = order if self.groups is None else spread(order, self.groups)
        for update in range(start_update, self.updates):
            own = order[update * self.per_update : (update + 1) * self.per_update]
            yield update, np.repeat(own, self.crops) if self.crops > 1 else own

    def divided(self, whole: NDArray[Any]) -> list[NDArray[Any]]:
        """This process's micro-batches of what there is for every example of an update."""
        return np.array_split(np.array_split(whole, self.world)[self.rank], self.accumulate)


class BatchStream:
    """Batches in a given order, fetched in this process or by workers; can be read any number of times.

    The global random state is never touched, so that it does not depend on the number of workers.
    """

    def __init__(self, examples: Examples | Composed, lists: Sequence[Sequence[int] | NDArray[np.int64]], workers: int = 0) -> None:
        self.examples, self.lists, self.workers = examples, lists, workers

    def __len__(self) -> int:
        return len(self.lists)

    def __iter__(self) -> Iterator[Batch]:
        if self.workers == 0 or not self.lists:
            return (self.examples.__getitems__(indices) for indices in self.lists)
        loader = DataLoader(
            self.examples,
            batch_sampler=[list(map(int, indices)) for indices in self.lists],
            collate_fn=_identity,
            num_workers=min(self.workers, len(self.lists)),
            generator=torch.Generator().manual_seed(0),  # the loader draws its workers' seeds from it, not from the global one
        )
        return iter(loader)


def train_loader(
    examples: Examples, plan: EpochPlan, *, start_update: int = 0, workers: int = 0, composition: Composition | None = None
) -> BatchStream:
    """This process's micro-batches of an epoch from update `start_update` on, `plan.accumulate` of them an update.

    Args:
        examples: of the training split.
        plan: the order.
        start_update: the first update.
        workers: processes that fetch.
        composition: which augmentations are shown, and what is mixed; None leaves `examples` as they are.
    """
    if composition is None:
        return BatchStream(examples, plan.parts(start_update), workers)
    if composition.plain:
        examples = examples.augmented(composition.augmentation, composition.view(plan.epoch))
        return BatchStream(examples, plan.parts(start_update), workers)
    parts: list[Part] = []
    for update, index in plan.whole(start_update):
        whole = pair(update, index, composition, plan.epoch)
        columns = [plan.divided(column) for column in whole.columns()]
        parts += [Part(update, *column) for column in zip(*columns, strict=True)]
    return BatchStream(Composed(examples, parts, composition, plan.epoch), [[number] for number in range(len(parts))], workers)


def eval_loader(examples: Examples, *, batch_size: int, rank: int = 0, world: int = 1, workers: int = 0) -> BatchStream:
    """Every example once and in order; process `rank` reads each `world`-th one.

    Shares differ by at most one example and may be empty; `Batch.index` tells which examples they hold.
    """
    mine = range(rank, len(examples), world)
    return BatchStream(examples, [list(mine[start : start + batch_size]) for start in range(0, len(mine), batch_size)], workers)


def _identity(batch: Any) -> Any:
    return batch
