"""Data sets of the Hugging Face hub, or local ones that the `datasets` package can read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import DataError, MissingDependency
from ...types import IGNORE
from ..stores import TensorStore, to_pixels
from ._tables import Cells, TableSource, _check_columns, _listed
from .base import Pool, Wanted, all_train, as_part, joined


@final
@dataclass(frozen=True, kw_only=True)
class Hf(TableSource):
    """A data set by hub id or local folder (saved by `save_to_disk`, or with csv, jsonl or parquet files in it).

    Scripts of a data set are never run. Parts called train, validation and test are used as such; others are left out.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".hf",)

    config: str | None = None
    """Configuration of the data set, such as `sst2` of `glue`."""
    revision: str | None = None
    """Git revision on the hub."""
    image: str | None = None
    """Column with the image; found by its type where absent."""
    channels: int = 3
    """Of images: 3 for RGB, 1 for greyscale."""

    def load(self, path: Path) -> dict[str, Cells]:
        """Not used: a data set is loaded with all its parts."""
        raise DataError(f"{path}: give the whole data set.")

    def read(self, location: str, wanted: Wanted) -> Pool:
        """All rows of the parts that have the usual names."""
        loaded = self._load(location)
        by_part = {part: loaded[name] for name in loaded if (part := as_part(name)) is not None}
        if "train" not in by_part:
            raise DataError(f"hf:{location} has no train part; it has {', '.join(loaded)}.")
        by_part = {part: by_part[part] for part in ("train", "valid", "test") if part in by_part}
        first = by_part["train"]
        counts = {part: len(rows) for part, rows in by_part.items()}
        parts = joined(counts) if len(counts) > 1 else all_train(counts["train"])
        where = f"hf:{location}"
        pictures = self._image_column(first) if wanted.kind in (None, "image") else None
        needed = [name for name in first.column_names if name != pictures]
        columns: dict[str, Cells] = {name: [cell for rows in by_part.values() for cell in rows[name]] for name in needed}
        if wanted.language is not None:
            return self.pool(columns, parts, wanted, where)
        targets = _listed(self.target)
        _check_columns("target", targets, columns, where)
        names = _class_names(first, targets) if wanted.labels == "class" else ()
        if pictures is None:
            pool = self.pool(columns, parts, wanted, where)
        else:
            labels, columns_named = self._labels(columns, targets, wanted, where)
            images = [cell for rows in by_part.values() for cell in rows[pictures]]
            pool = Pool("image", self._images(images, wanted, where), labels, parts, columns_named)
        if not names:
            return pool
        return Pool(pool.kind, pool.inputs, _indices(columns[targets[0]]), parts, names, pool.categorical, pool.ordinal)

    def _load(self, location: str) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise MissingDependency("datasets", "text", "a source hf:") from error
        path = Path(location).expanduser()
        try:
            if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists()):
                loaded: Any = datasets.load_from_disk(str(path))
            else:
                where = str(path) if path.exists() else location
                loaded = datasets.load_dataset(where, self.config, revision=self.revision)
        except Exception as error:  # the library raises many kinds, all of which mean the same here
            first = str(error).strip().partition("\n")[0]
            missing = "" if path.exists() else " There is no such local folder either."
            raise DataError(f"hf:{location} cannot be loaded: {type(error).__name__}: {first}{missing}") from error
        return loaded if isinstance(loaded, dict) else {"train": loaded}

    def _image_column(self, rows: Any) -> str | None:
        if self.image is not None:
            _check_columns("image", [self.image], dict.fromkeys(rows.column_names, ()), "hf")
            return self.image
        return next((name for name, feature in rows.features.items() if type(feature).__name__ == "Image"), None)

    def _images(self, images: list[Any], wanted: Wanted, where: str) -> TensorStore:
        size = None if wanted.size is None else (wanted.size, wanted.size)
        pixels = [to_pixels(image, self.channels, size) for image in images]
        shapes = sorted({tuple(image.shape) for image in pixels})
        if len(shapes) > 1:
            raise DataError(f"{where}: the images differ in size, such as {shapes[0]} and {shapes[-1]}. Set data.size, such as 64.")
        return TensorStore(torch.stack(pixels))


def _class_names(rows: Any, targets: list[str]) -> tuple[str, ...]:
    feature = rows.features[targets[0]] if len(targets) == 1 else None
    return tuple(feature.names) if feature is not None and type(feature).__name__ == "ClassLabel" else ()


def _indices(cells: Cells) -> NDArray[np.int64]:
    """Class indices; the hub writes -1 (or nothing) where there is no label."""
    return np.array([IGNORE if cell is None or cell < 0 else cell for cell in cells], dtype=np.int64)
