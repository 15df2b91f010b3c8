"""Shards: safetensors files whose arrays are read row by row through the memory map of the operating system."""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from ..files import writing
from .manifest import Shard, StoreError

BLOCK = 1 << 20
_NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8, "U16": np.uint16, "I32": np.int32, "I64": np.int64}
"""numpy has no bfloat16; its bits travel as whole numbers."""


def checksum(path: Path) -> int:
    """CRC-32 of a file, read block by block."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return value


def write_shard(folder: Path, view: int, start: int, arrays: Mapping[str, Tensor]) -> Shard:
    """Writes one shard at once: it is there and whole, or not there."""
    count = len(next(iter(arrays.values())))
    path = folder / f"view{view:04d}-{start:012d}.safetensors"
    with writing(path) as temporary:
        save_file({name: value.contiguous() for name, value in arrays.items()}, temporary)
        crc, size = checksum(temporary), temporary.stat().st_size
    return Shard(path.name, view, start, start + count, size, crc)


def verify_shard(folder: Path, shard: Shard) -> None:
    """Compares a shard with what the manifest says.

    Raises:
        StoreError: missing, truncated, or a byte has changed.
    """
    path = folder / shard.file
    if not path.is_file():
        raise StoreError(f"{path}: the shard is missing (examples {shard.start} to {shard.stop - 1}, view {shard.view}).")
    size = path.stat().st_size
    if size != shard.bytes:
        raise StoreError(f"{path}: expected {shard.bytes:,} bytes, found {size:,}; the shard was cut short or overwritten.")
    if checksum(path) != shard.crc32:
        raise StoreError(f"{path}: its contents have changed since it was written (checksum differs).")


@dataclass(frozen=True)
class OpenShard:
    """The arrays of a shard, mapped into memory; a row is read from disk when it is asked for."""

    arrays: Mapping[str, NDArray[Any]]
    brain: frozenset[str]
    """Names of the arrays whose bits are bfloat16."""

    def rows(self, name: str, where: NDArray[np.int64]) -> Tensor:
        """Rows of one array, `(len(where), ...)`."""
        found = torch.from_numpy(self.arrays[name][where])
        return found.view(torch.bfloat16) if name in self.brain else found


def open_shard(path: Path) -> OpenShard:
    """Maps a shard.

    Raises:
        StoreError: where it is no safetensors file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        header.pop("__metadata__", None)
        arrays = {name: _array(mapped, 8 + length, about) for name, about in header.items()}
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: cannot be read as a shard: {error}") from None
    return OpenShard(arrays, frozenset(name for name, about in header.items() if about["dtype"] == "BF16"))


def _array(mapped: mmap.mmap, base: int, about: Mapping[str, Any]) -> NDArray[Any]:
    kind, (begin, end) = np.dtype(_NUMPY[about["dtype"]]), about["data_offsets"]
    return np.frombuffer(mapped, kind, (end - begin) // kind.itemsize, base + begin).reshape(about["shape"])
