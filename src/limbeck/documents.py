"""Documents of language: what they are known by, whatever their order, their neighbours and their padding."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .types import Batch

KEY_BYTES = 32
"""Bytes of a document's key."""


def document_key(ids: NDArray[np.integer], trained: NDArray[np.bool_], source: NDArray[np.integer] | None = None) -> bytes:
    """SHA-256 of a document's tokens and of which of them are trained: 32 bytes that are the same wherever the document stands.

    Args:
        ids: tokens as the model sees them, `(tokens,)`, without padding.
        trained: which of them a loss is taken at (bool, `(tokens,)`).
        source: tokens of the encoder, where there is one.
    """
    digest = hashlib.sha256(f"limbeck document {len(ids)} {-1 if source is None else len(source)}\n".encode())
    digest.update(np.ascontiguousarray(ids, dtype="<i8").tobytes())
    digest.update(np.packbits(np.asarray(trained, dtype=bool)).tobytes())
    if source is not None:
        digest.update(np.ascontiguousarray(source, dtype="<i8").tobytes())
    return digest.digest()


class Documents(Protocol):
    """The documents of a split, by number; each may be shown by itself, not packed with others."""

    def __len__(self) -> int:
        """Number of documents."""
        ...

    def keys(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Their keys, `(numbers, 32)`."""
        ...

    def lengths(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens each has, `(numbers,)`; 0 where none of them is trained, so that nobody asks about it."""
        ...

    def shown(self, numbers: NDArray[np.int64]) -> Batch:
        """These documents as one batch; `extra["documents"]` holds the document of every trained token, `extra["within"]` which it is."""
        ...
