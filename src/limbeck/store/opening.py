"""Opens a store of either kind."""

from __future__ import annotations

from pathlib import Path

from .manifest import read_manifest
from .places import place
from .reader import StoreReader
from .token_reader import TokenReader


def open_store(address: str | Path, *, verify: bool = True) -> StoreReader | TokenReader:
    """The reader of what lies there.

    Raises:
        StoreError: where it is unfinished or damaged.
    """
    where = place(address)
    return (TokenReader if read_manifest(where).language else StoreReader)(where, verify=verify)
