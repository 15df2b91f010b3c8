"""What a codec of tokens is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import LimbeckError
from ...ops.projection import narrowed, project
from ...parts import check_fields
from ...tokens import Hidden, Logits, Projection, Sampled, Tokens, TopK
from ..codecs.base import Layout

HELD = 1 << 24
"""Logits that are held at once while tokens are encoded."""
STREAM = "stream"
"""Name of the array whose tokens take differing numbers of bytes."""


@dataclass(frozen=True, kw_only=True)
class TokenCodec(ABC):
    """Base of the codecs of tokens. They have no state: what is needed to read is in the arrays, the fields and the vocabulary."""

    streams: ClassVar[bool] = False
    """Whether there is an array `stream` of bytes, of which each token takes as many as `sizes` says."""
    head: ClassVar[bool] = False
    """Whether what is written means something only beside the teacher's head, which the store then keeps once."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def uniforms(self) -> int:
        """How many random numbers `encode` needs for a token."""
        return 0

    @abstractmethod
    def layout(self, vocabulary: int, width: int) -> Layout:
        """What is written for one token, without the stream.

        Args:
            vocabulary: number of tokens that there are.
            width: of the teacher's hidden states; 0 where there are none.

        Raises:
            LimbeckError: where the signal cannot be written so.
        """

    @abstractmethod
    def encode(self, said: Tokens, vocabulary: int, uniforms: Tensor) -> dict[str, Tensor]:
        """The arrays of some tokens, a row each, on the CPU.

        Args:
            said: what the teacher says of them.
            vocabulary: number of tokens that there are; rows of a head beyond only pad it.
            uniforms: random numbers in [0, 1), `(tokens, self.uniforms)`, float64, for codecs that draw.

        Raises:
            LimbeckError: where `said` does not hold what is to be written.
        """

    @abstractmethod
    def decode(self, arrays: Mapping[str, Tensor], vocabulary: int, head: Projection | None) -> Tokens:
        """What the arrays stand for, on the CPU."""

    def sizes(self, arrays: Mapping[str, Tensor], vocabulary: int) -> Tensor:
        """Bytes of the stream that each token takes, int64."""
        raise NotImplementedError

    def fields(self) -> dict[str, Any]:
        """The fields, for the manifest."""
        return asdict(self)


def held(said: Tokens, vocabulary: int, name: str) -> Iterator[tuple[slice, Tensor]]:
    """Logits of some tokens at a time, `(some, vocabulary)`, at least float32.

    Raises:
        LimbeckError: where the logits are not known; `name` is the codec that asks.
    """
    if isinstance(said, TopK | Sampled):
        kind = "the likeliest tokens" if isinstance(said, TopK) else "samples"
        raise LimbeckError(f"the codec {name} needs the whole distribution, and the teacher gives {kind} only. Write them with topk.")
    count = len(said.hidden if isinstance(said, Hidden) else said.logits)
    step = max(HELD // vocabulary, 1)
    for start in range(0, count, step):
        where = slice(start, start + step)
        yield where, dense(said, where, vocabulary)


def dense(said: Hidden | Logits, where: slice | Tensor, vocabulary: int) -> Tensor:
    """Logits of the tokens at `where`, at least float32."""
    if isinstance(said, Hidden):
        return project(said.hidden[where], narrowed(said.head, vocabulary)).detach()
    return said.logits[where, :vocabulary].detach().to(torch.promote_types(said.logits.dtype, torch.float32))


def joined(parts: list[dict[str, Tensor]], empty: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arrays of parts, one after another; `empty` where there are none."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else dict(empty)
