"""Shards: safetensors files whose arrays are read row by row through the memory map of the operating system."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from .manifest import Beside, Shard
from .places import Place, StoreError

BLOCK = 1 << 20
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types by the names that safetensors gives them."""


def checksum(path: Path) -> int:
    """CRC-32 of a file, read block by block."""
    value = 0
    block = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            value = zlib.crc32(block[:count], value)
    return value


def write_shard(where: Place, view: int, start: int, arrays: Mapping[str, Tensor], *, count: int | None = None) -> Shard:
    """Writes one shard at once: it is there and whole, or not there. It holds `count` examples, or a row for each in every array."""
    if count is None:
        count = len(next(iter(arrays.values())))
    name = shard_name(view, start)
    written = write_arrays(where, name, arrays)
    return Shard(name, view, start, start + count, written.bytes, written.crc32)


def write_arrays(where: Place, name: str, arrays: Mapping[str, Tensor]) -> Beside:
    """Writes a safetensors file at once."""
    with where.writing(name) as temporary:
        save_file({name: value.contiguous() for name, value in arrays.items()}, temporary)
        return Beside(name, temporary.stat().st_size, checksum(temporary))


def shard_name(view: int, start: int) -> str:
    """File of the shard that begins at an example."""
    return f"view{view:04d}-{start:012d}.safetensors"


def check_size(where: Place, shard: Shard | Beside) -> None:
    """Compares the length of a shard (or of a file beside them) with what the manifest says.

    Raises:
        StoreError: missing or of another length.
    """
    size = where.size(shard.file)
    if size is None and isinstance(shard, Shard):
        raise StoreError(f"{where.at(shard.file)}: the shard is missing (examples {shard.start} to {shard.stop - 1}, view {shard.view}).")
    if size is None:
        raise StoreError(f"{where.at(shard.file)}: the file is missing.")
    if size != shard.bytes:
        raise StoreError(f"{where.at(shard.file)}: expected {shard.bytes:,} bytes, found {size:,}; the shard was cut short or overwritten.")


def verify_shard(where: Place, shard: Shard | Beside) -> None:
    """Compares a shard (or a file beside them) with what the manifest says.

    Raises:
        StoreError: missing, truncated, or a byte has changed.
    """
    check_size(where, shard)
    if checksum(where.fetch(shard.file)) != shard.crc32:
        raise StoreError(f"{where.at(shard.file)}: its contents have changed since it was written (checksum differs).")


@dataclass(frozen=True)
class Column:
    """An array of a shard, mapped into memory; a row is read from disk when it is asked for."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    """Of one row."""
    rows: Tensor
    """Bytes, `(examples, bytes of a row)`."""
    flat: memoryview
    """The same bytes, one after another."""


OpenShard = Mapping[str, Column]


def open_shard(path: Path, name: str) -> OpenShard:
    """Maps a shard; no file stays open. `name` is what messages call it.

    Raises:
        StoreError: where it is no safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(min(length, size)))
        header.pop("__metadata__", None)
        storage = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)
        mapped = torch.empty(0, dtype=torch.uint8).set_(storage)  # pyright: ignore[reportCallIssue, reportArgumentType]
        return {array: _column(mapped, 8 + length, about) for array, about in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise StoreError(f"{name}: cannot be read as a shard: {error}") from None


def _column(mapped: Tensor, base: int, about: Mapping[str, Any]) -> Column:
    begin, end = about["data_offsets"]
    count, *shape = about["shape"]
    rows = mapped[base + begin : base + end].view(count, (end - begin) // max(count, 1))
    return Column(DTYPES[about["dtype"]], tuple(shape), rows, rows.numpy().data.cast("B"))


def gather(shards: Sequence[OpenShard], array: str, where: NDArray[np.int64], rows: NDArray[np.int64]) -> Tensor:
    """Rows of one array, `(len(rows), ...)`.

    Args:
        shards: the shards of a view.
        where: number of the shard of each row.
        rows: number of the row in its shard.
    """
    column = shards[int(where[0]) if len(where) else 0][array]
    if len(shards) == 1 or not len(rows):
        found = column.rows.index_select(0, torch.from_numpy(rows)).view(column.dtype)
        return found.reshape(len(rows), *column.shape)
    size = column.rows.shape[1]
    offsets = (rows * size).tolist()
    joined = bytearray().join([shards[shard][array].flat[at : at + size] for shard, at in zip(where.tolist(), offsets, strict=True)])
    return torch.frombuffer(joined, dtype=column.dtype).view(len(rows), *column.shape)
