"""What every transform is: a dataclass that changes a batch of inputs by numbers that depend on each example alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..hashing import mix, uniform


@dataclass(frozen=True)
class Draws:
    """The random numbers of one transform for one batch: functions of seed, epoch, example and position in the list."""

    seed: int
    epoch: int | NDArray[np.int64]
    """Number of the augmentation, or one for each example, `(batch,)`."""
    index: NDArray[np.int64]
    """Index of each example, `(batch,)`."""
    position: int
    """Place of the transform in the recipe's list."""

    def uniform(self, number: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """The `number`-th uniform variable of each example, in [low, high), `(batch,)`, float64."""
        values = uniform(self.seed, self.epoch, self.position, number, self.index)
        return torch.from_numpy(values) * (high - low) + low

    def integers(self, number: int, count: int) -> Tensor:
        """The `number`-th integer of each example, in [0, count), `(batch,)`, int64."""
        return (self.uniform(number) * count).long().clamp_(max=count - 1)

    def chance(self, number: int, probability: float) -> Tensor:
        """The `number`-th yes or no of each example, `(batch,)`, bool."""
        return self.uniform(number) < probability

    def generators(self) -> Iterator[torch.Generator]:
        """One seeded generator an example, for noise that has no closed form; reused, so draw before asking for the next."""
        generator = torch.Generator()
        for bits in mix(self.seed, self.epoch, self.position, self.index).tolist():
            yield generator.manual_seed(bits >> 1)


@dataclass(frozen=True, kw_only=True)
class Transform(ABC):
    """Base of all transforms.

    What happens to an example must not depend on the rest of the batch, to the last bit: use element-wise operations
    and gathers, and no reductions over floats whose order of summation may change with the size of the batch.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)
    """Kinds of data to which it applies."""

    @abstractmethod
    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """The augmented inputs, `(batch, ...)`, of the same shape; the argument may be changed in place."""


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """`(batch,)` shaped to broadcast against `like`, in its type."""
    return values.to(like.dtype if values.is_floating_point() else values.dtype).reshape(-1, *[1] * (like.ndim - 1))
