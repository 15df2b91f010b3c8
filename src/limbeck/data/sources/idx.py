"""The MNIST family: a folder with four IDX files, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import DataError
from ..stores import TensorStore
from .base import Pool, Source, Wanted, existing, joined

_PARTS = {"train": "train", "test": "t10k"}


@final
@dataclass(frozen=True, kw_only=True)
class Idx(Source):
    """A folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same as `t10k-...`, each plain or `.gz`."""

    names: tuple[str, ...] = ()
    """Names of the classes, by label."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """Training and test part."""
        folder = existing(location, "idx")
        if not folder.is_dir():
            raise DataError(f"idx: {folder} is a file; give the folder that holds the four files.")
        images, labels, counts = [], [], {}
        for part, prefix in _PARTS.items():
            pictures = _read(_find(folder, f"{prefix}-images", "idx3-ubyte"), dimensions=3)
            targets = _read(_find(folder, f"{prefix}-labels", "idx1-ubyte"), dimensions=1)
            if len(pictures) != len(targets):
                raise DataError(f"idx: {folder}: the {part} part has {len(pictures)} images and {len(targets)} labels.")
            images.append(pictures)
            labels.append(targets)
            counts[part] = len(targets)
        values = torch.from_numpy(np.concatenate(images))
        classes = np.concatenate(labels).astype(np.int64)
        store = TensorStore(values.flatten(1).float() / 255) if wanted.kind == "tabular" else TensorStore(values[:, None])
        return Pool("tabular" if wanted.kind == "tabular" else "image", store, classes, joined(counts), tuple(self.names))


def _find(folder: Path, prefix: str, kind: str) -> Path:
    wanted = f"{prefix}-{kind}"
    for name in (wanted, f"{wanted}.gz", f"{prefix}.{kind}", f"{prefix}.{kind}.gz"):
        if (folder / name).is_file():
            return folder / name
    held = ", ".join(sorted(entry.name for entry in folder.iterdir())[:10]) or "nothing"
    raise DataError(f"idx: {folder} has no {wanted} (or {wanted}.gz). It holds {held}.")


def _read(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file of bytes: four bytes of magic, the size of each dimension as a big-endian integer, the values."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"idx: {path} cannot be read ({error}). Download it again.") from error
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(f"idx: {path} is no IDX file of bytes with {dimensions} dimension(s): it begins with {raw[:4].hex()}.")
    shape = tuple(int(n) for n in np.frombuffer(raw, dtype=">i4", count=dimensions, offset=4))
    if len(raw) - header != int(np.prod(shape)):
        raise DataError(f"idx: {path} announces {shape} values but holds {len(raw) - header} bytes; it is cut off. Download it again.")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)
