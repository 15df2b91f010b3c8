"""How many bytes a store will take, to the byte, without writing it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args, get_origin, get_type_hints

import torch

from ..errors import LimbeckError
from .codecs.base import Codec
from .manifest import CODECS, Manifest, Shard, Signal
from .shards import DTYPES, shard_name

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_CHECKSUM = 2_000_000_000
"""A CRC-32 of the usual number of digits."""


@dataclass(frozen=True)
class Size:
    """Bytes of a store."""

    data: int
    """The arrays alone: what the codecs write for one example, times examples and views."""
    total: int
    """All files: the arrays, the header of every shard, and the manifest (to within a few bytes, for the digits of its checksums)."""


def store_size(plan: Manifest, *, shard_size: int) -> Size:
    """Bytes of the store that `plan` (a manifest without shards) describes, in shards of so many examples."""
    layouts = {
        f"{name}/{array}": about for name, signal in plan.signals.items() for array, about in signal.build().layout(signal.shape).items()
    }
    row = sum(dtype.itemsize * torch.Size(shape).numel() for dtype, shape in layouts.values())
    shards = []
    for view in range(plan.views):
        for start in range(0, plan.examples, shard_size):
            stop = min(start + shard_size, plan.examples)
            size = _header(layouts, stop - start) + row * (stop - start)
            shards.append(Shard(shard_name(view, start), view, start, stop, size, _CHECKSUM))
    files = sum(shard.bytes for shard in shards)
    manifest = len(replace(plan, shards=tuple(shards)).text().encode())
    return Size(row * plan.examples * plan.views, files + manifest)


def _header(layouts: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], count: int) -> int:
    """Bytes of a safetensors header: its length, then JSON, filled up with spaces to a multiple of 8."""
    header, offset = {}, 0
    # safetensors writes the arrays of the widest type first, then by name
    for name, (dtype, shape) in sorted(layouts.items(), key=lambda item: (-item[1][0].itemsize, item[0])):
        size = dtype.itemsize * torch.Size(shape).numel() * count
        header[name] = {"dtype": _NAMES[dtype], "shape": [count, *shape], "data_offsets": [offset, offset + size]}
        offset += size
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8


def choices(shape: tuple[int, ...]) -> dict[str, Signal]:
    """Every way to write a signal of `shape`, by a short text such as `dense:dtype=int8`: each codec in each of its types.

    Where the signal has too few classes for the default `k` of `topk`, half of them are kept.
    """
    found: dict[str, Signal] = {}
    for name in CODECS.names():
        kind: type[Codec] = CODECS.get(name)
        dtypes = options(kind, "dtype")
        given = {"k": shape[0] // 2} if name == "topk" and len(shape) == 1 and 2 <= shape[0] <= 10 else {}
        for fields in [{**given, "dtype": dtype} for dtype in dtypes] or [given]:
            signal = Signal(shape, name, fields)
            try:
                codec = signal.build()
                codec.layout(shape)
            except LimbeckError:  # not for a signal of this shape
                continue
            shown = {key: value for key, value in codec.fields().items() if key in ("k", "draws", "dtype")}
            text = ",".join(f"{key}={value}" for key, value in shown.items())
            found[f"{name}:{text}" if text else name] = Signal(shape, name, codec.fields())
    return found


def options(kind: type[Codec], field: str) -> tuple[str, ...]:
    """The values that a field with a closed list may have."""
    hint = get_type_hints(kind).get(field)
    return get_args(hint) if get_origin(hint) is Literal else ()
