"""What a codec is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import LimbeckError
from ...parts import check_fields

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of every array that a codec writes for one example."""


@dataclass(frozen=True, kw_only=True)
class Codec(ABC):
    """Base of all codecs. They have no state: what is needed to read is in the arrays, the fields and the shape of the signal."""

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def layout(self, shape: tuple[int, ...]) -> Layout:
        """What is written for one example of a signal of `shape` (without the batch).

        Raises:
            LimbeckError: where the signal cannot be written so.
        """

    @abstractmethod
    def encode(self, signal: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The arrays of a batch, `(batch, ...)` each, on the CPU.

        Args:
            signal: `(batch, *shape)`.
            index: the examples' positions in the data set, for codecs that draw random numbers.
        """

    @abstractmethod
    def decode(self, arrays: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """The signal that the arrays stand for, `(batch, *shape)`, float32."""

    def completed(self, completion: str | None, keep: int | None) -> Codec:
        """The same codec, reading what it keeps of a distribution in another way.

        Args:
            completion: what the classes get that are not kept; None as before.
            keep: read only so many of those that are kept; None all.

        Raises:
            LimbeckError: where there is nothing to complete.
        """
        raise LimbeckError(
            f"{type(self).__name__} keeps no list of largest probabilities that `completion` or `keep` could read otherwise."
        )

    def bytes_per_example(self, shape: tuple[int, ...]) -> int:
        """Bytes of the arrays of one example."""
        return sum(dtype.itemsize * torch.Size(size).numel() for dtype, size in self.layout(shape).values())

    def fields(self) -> dict[str, Any]:
        """The fields, for the manifest."""
        return asdict(self)
