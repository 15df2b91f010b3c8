"""Arrays in a NumPy archive: `x` and `y`, or `x_train`, `y_train`, `x_test`, `y_test` (and `x_valid`, `y_valid`)."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from ...errors import DataError, did_you_mean
from ..stores import TensorStore
from ._arrays import inputs_from_array
from .base import Kind, Pool, Source, Wanted, all_train, existing, joined


@final
@dataclass(frozen=True, kw_only=True)
class Npz(Source):
    """An `.npz` file. Inputs of two dimensions are tables, of three or four images (bytes, or floats in [0, 1])."""

    x: str = "x"
    """Name of the inputs; `x_train`, `x_valid` and `x_test` follow from it."""
    y: str = "y"
    """Name of the labels, in the same way."""
    layout: Literal["auto", "NCHW", "NHWC"] = "auto"
    """Order of the dimensions of images; found from where the 1, 3 or 4 channels stand."""
    names: tuple[str, ...] = ()
    """Names of the classes, by label, or of the target columns."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """All arrays; pickled objects are refused."""
        path = existing(location, "npz")
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays: dict[str, Any] = {key: archive[key] for key in archive.files if key.startswith((self.x, self.y, *wanted.arrays))}
                keys = list(archive.files)
        except (ValueError, OSError, AttributeError, zipfile.BadZipFile) as error:
            raise DataError(f"npz: {path} cannot be read as an archive of plain arrays ({error}).") from error
        parts = {part: (f"{self.x}_{part}", f"{self.y}_{part}") for part in ("train", "valid", "test")}
        if f"{self.x}_val" in keys:
            parts["valid"] = (f"{self.x}_val", f"{self.y}_val")
        held = {part: pair for part, pair in parts.items() if pair[0] in keys}
        if "train" not in held:
            held = {"all": (self.x, self.y)}
        for pair in held.values():
            for key in pair:
                if key not in keys:
                    raise DataError(f"npz: {path} has no array {key!r}.{did_you_mean(key, keys)} It holds {', '.join(keys)}.")
        inputs, labels = ([arrays[pair[side]] for pair in held.values()] for side in (0, 1))
        for (x_key, y_key), x, y in zip(held.values(), inputs, labels, strict=True):
            if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
                raise DataError(f"npz: {path}: {x_key} has shape {x.shape} and {y_key} has shape {y.shape}; they need as many rows.")
        kind, store = inputs_from_array(_stacked(inputs, str(path)), wanted, layout=self.layout, where=f"npz: {path}")
        counts = {part: len(y) for part, y in zip(held, labels, strict=True)}
        own = all_train(len(store)) if "all" in held else joined(counts)
        ends = [pair[0].removeprefix(self.x) for pair in held.values()]
        further = {name: self._further(name, ends, arrays, wanted, len(store), path) for name in wanted.arrays if name + ends[0] in arrays}
        known = tuple(key.removesuffix(ends[0]) for key in keys if key.endswith(ends[0]) and not key.startswith((self.x, self.y)))
        return Pool(kind, store, _stacked(labels, str(path)), own, tuple(self.names), further=further, arrays=known)

    def _further(
        self, name: str, ends: list[str], arrays: Mapping[str, Any], wanted: Wanted, rows: int, path: Path
    ) -> tuple[Kind, TensorStore]:
        """Another array of the same examples, with the same parts."""
        missing = [name + end for end in ends if name + end not in arrays]
        if missing:
            raise DataError(f"npz: {path} has an array {name + ends[0]!r} and no {missing[0]!r}; every part needs one.")
        values = _stacked([arrays[name + end] for end in ends], str(path))
        if values.ndim == 0 or len(values) != rows:
            raise DataError(f"npz: {path}: {name} has shape {values.shape} and the inputs have {rows} rows; they need as many.")
        free = Wanted(None, wanted.labels)
        return inputs_from_array(values, free, layout=self.layout, where=f"npz: {path}: {name}")


def _stacked(arrays: list[Any], where: str) -> Any:
    if len({array.shape[1:] for array in arrays}) != 1:
        raise DataError(f"npz: {where}: the parts differ in shape: {', '.join(str(array.shape) for array in arrays)}.")
    return np.concatenate(arrays)
