"""Batches that show several views of an example, or mix examples with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..types import Batch, Mixed
from .base import Examples
from .mixing.base import Mixing
from .mixing.pairs import partners, untouched
from .transforms.base import Draws

_EXAMPLE, _UPDATE, _VIEW = -1, -2, -3
"""Places of the draws of mixing, beside those of the transforms, which count from 0."""
_BEYOND = 1 << 30
"""Distance from an augmentation to the second one that is mixed into it, where nothing is stored."""


@dataclass(frozen=True)
class Composition:
    """What an update is made of beyond examples in an order."""

    crops: int = 1
    """Augmentations of each example in an update, next to each other."""
    mixing: Mixing | None = None
    seed: int = 0
    """Of the mixing."""
    replay: tuple[int, int] | None = None
    """Seed and number of the augmentations that come in turn; None shows new ones in every epoch, of the same seed as the mixing."""

    @property
    def plain(self) -> bool:
        """Whether there is nothing to compose."""
        return self.crops == 1 and self.mixing is None

    @property
    def augmentation(self) -> int:
        """Seed of the augmentation."""
        return self.seed if self.replay is None else self.replay[0]

    def view(self, epoch: int, turn: int = 0) -> int:
        """Number of the augmentation that is shown in `epoch` as the `turn`-th of its example."""
        number = epoch * self.crops + turn
        return number % self.replay[1] if self.replay is not None else number

    def another(self, epoch: int, view: NDArray[np.int64], slot: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of other augmentations than `view`, of the same examples."""
        if self.replay is None:
            return view + _BEYOND
        count = self.replay[1]
        return (view + 1 + Draws(self.seed, epoch, slot, _VIEW).integers(0, max(count - 1, 1)).numpy()) % count


@dataclass(frozen=True)
class Part:
    """The examples of one micro-batch, by number and augmentation, and those that are mixed into them."""

    update: int
    index: NDArray[np.int64]
    turn: NDArray[np.int64]
    """Which of the views of its example, from 0."""
    partner: NDArray[np.int64]
    partner_turn: NDArray[np.int64]
    mixed: NDArray[np.bool_]

    def columns(self) -> tuple[NDArray[Any], ...]:
        """What there is for every example, in the order of the fields."""
        return self.index, self.turn, self.partner, self.partner_turn, self.mixed


def pair(update: int, index: NDArray[np.int64], composition: Composition, epoch: int) -> Part:
    """A whole update, the examples of which stand in `index`, each as often as it has views.

    Who is mixed with whom is decided here, before the update is divided among processes and micro-batches.
    """
    count, mixing = len(index), composition.mixing
    turn = np.arange(count) % composition.crops
    if mixing is None:
        return Part(update, index, turn, index, turn, np.zeros(count, dtype=np.bool_))
    counters = (composition.seed, epoch, update)
    whom = np.arange(count) if mixing.own_views else partners(count, *counters)
    mixed = np.ones(count, dtype=np.bool_)
    mixed[untouched(count, *counters, share=mixing.share, with_replacement=mixing.with_replacement)] = False
    return Part(update, index, turn, index[whom], turn[whom], mixed)


class Composed(Dataset[Batch]):
    """The micro-batches of an epoch, by their number.

    Args:
        examples: of the split.
        parts: what each micro-batch holds.
        composition: how they are put together.
        epoch: number of the epoch.
    """

    def __init__(self, examples: Examples, parts: Sequence[Part], composition: Composition, epoch: int) -> None:
        self.examples, self.parts, self.composition, self.epoch = examples, parts, composition, epoch

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Batch:
        """One micro-batch."""
        return self.__getitems__([number])

    def __getitems__(self, numbers: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The micro-batch whose number is the only one given."""
        part, how = self.parts[int(numbers[0])], self.composition
        view = self._views(part.turn)
        index, own = torch.from_numpy(part.index), torch.from_numpy(view)
        if how.mixing is None:
            return self.examples.shown(index, how.augmentation, view)
        slot = part.index * how.crops + part.turn
        other = how.another(self.epoch, view, slot) if how.mixing.own_views else self._views(part.partner_turn)
        pairs = self._fetch(part, view, other)
        by_update = how.mixing.per == "update"
        counters = np.full(len(slot), part.update) if by_update else slot
        draws = Draws(how.seed, self.epoch, counters, _UPDATE if by_update else _EXAMPLE)
        touched = torch.from_numpy(part.mixed)
        found = {name: _blended(how.mixing, *pair, draws, touched) for name, pair in pairs.items()}
        inputs, share = found.pop(None)
        partner = torch.from_numpy(part.partner)
        known = self.examples.labels
        about = Mixed(partner, torch.from_numpy(other), known.index_select(0, partner), share)
        views = {name: mixed for name, (mixed, _) in found.items() if name is not None}
        return Batch(inputs, known.index_select(0, index), index, epoch=own, views=views, mixed=about)

    def _views(self, turn: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([self.composition.view(self.epoch, i) for i in range(self.composition.crops)], dtype=np.int64)[turn]

    def _fetch(self, part: Part, view: NDArray[np.int64], other: NDArray[np.int64]) -> dict[str | None, tuple[Tensor, Tensor]]:
        """The examples and their partners, and every further view of both; what occurs twice is fetched once, as a rule all of them."""
        wanted = np.stack([np.concatenate([part.index, part.partner]), np.concatenate([view, other])], 1)
        rows, place = np.unique(wanted, axis=0, return_inverse=True)
        index, views = torch.from_numpy(rows[:, 0].copy()), rows[:, 1].copy()
        found = self.examples.shown(index, self.composition.augmentation, views)
        first, second = torch.from_numpy(place.reshape(2, -1))
        return {name: (seen[first], seen[second]) for name, seen in {None: found.inputs, **found.views}.items()}


def _blended(mixing: Mixing, own: Tensor, other: Tensor, draws: Draws, touched: Tensor) -> tuple[Tensor, Tensor]:
    """The examples (as one view shows them) of which those that are touched are mixed with `other`, and the shares that are their own.

    All views of an example have the same draws: one coefficient, one rectangle relative to their size.
    """
    mixed, share = mixing.apply(own, other, draws)
    inputs = torch.where(touched.reshape(-1, *[1] * (own.ndim - 1)), mixed, own)
    return inputs, torch.where(touched, share, torch.ones_like(share))
