"""What every source gives: a pool of rows, not yet cut into splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, UnknownName, did_you_mean
from ...types import LabelKind, LanguageKind
from ..labels import RawLabels
from ..stores import Store

Kind = Literal["image", "tabular", "text"]
Column = NDArray[np.float64] | list[str | None]
"""Numbers (NaN where missing) or texts (None where missing)."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a source."""

    kind: Kind | None
    """The kind that the task needs; None where it takes several."""
    labels: LabelKind
    size: int | None = None
    """Height and width to which images are scaled."""
    preview: bool = False
    """Only shapes, labels and names are needed: a source may leave pixels unread."""
    arrays: tuple[str, ...] = ()
    """Further arrays that views of the data show."""
    group: str | None = None
    """Name of the groups that a split keeps together."""
    group_key: str = "data.split.group"
    """The key of a recipe that asks for them, for messages."""
    language: LanguageKind | None = None
    """Texts for a language model: the columns are wanted as they stand."""


@dataclass(frozen=True)
class Pool:
    """All rows of a source, of all its parts together."""

    kind: Kind
    inputs: Store | Mapping[str, Column] | list[str] | list[tuple[str, str]]
    """Ready inputs; or columns, which are encoded by the statistics of the training rows; or texts, which are tokenised."""
    labels: RawLabels
    parts: dict[str, NDArray[np.int64]]
    """Rows of `train`, and of `valid` and `test` where the source has such parts of its own."""
    names: tuple[str, ...] = ()
    """Names of the classes (the labels then are their indices) or of the target columns."""
    categorical: frozenset[str] = frozenset()
    """Columns that are categories though they look like numbers."""
    ordinal: bool = False
    """Categories become one column of ranks instead of one column each."""
    notes: list[str] = field(default_factory=list)
    """What the user should know of how the source was read."""
    further: Mapping[str, tuple[Kind, Store]] = field(default_factory=dict)
    """Kind and inputs of the further arrays that were wanted, a row each for every row of `inputs`."""
    arrays: tuple[str, ...] = ()
    """Names of all further arrays that there are."""
    groups: NDArray[Any] | None = None
    """Which group every row belongs to, where groups were wanted and the source knows them."""
    cells: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Texts for a language model: the columns as they stand, instead of `inputs` and `labels`."""


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Base of all sources: a dataclass whose fields are the keys of `data.args`."""

    standardise_target: bool = False
    """Regression: scale the targets to mean 0 and deviation 1 of the training examples; metrics are then in these units."""

    @abstractmethod
    def read(self, location: str, wanted: Wanted) -> Pool:
        """Everything that `location` (what follows the source's name and the colon) holds."""


def all_train(count: int) -> dict[str, NDArray[np.int64]]:
    """Parts of a source without parts of its own."""
    return {"train": np.arange(count)}


def joined(counts: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Parts that lie end to end in the pool, in the order of `counts`; empty ones are left out."""
    parts, start = {}, 0
    for name, count in counts.items():
        if count:
            parts[name] = np.arange(start, start + count)
        start += count
    return parts


def existing(location: str, source: str) -> Path:
    """The file or folder at `location`.

    Raises:
        DataError: where there is none; names the nearest that exists.
    """
    path = Path(location).expanduser()
    if not location:
        raise DataError(f"{source}: needs a path, such as {source}:data/file.")
    if path.exists():
        return path
    folder = next(parent for parent in [*path.parents, Path()] if parent.is_dir())
    missing = path.relative_to(folder).parts[0] if path.is_relative_to(folder) else path.name
    hint = did_you_mean(missing, [entry.name for entry in folder.iterdir()])
    raise DataError(f"{source}: {path} does not exist: {folder} has no {missing!r}.{hint} Relative paths start at {Path.cwd()}.")


def as_part(name: str) -> str | None:
    """`train`, `valid` or `test` for the usual names of such files and folders, in any case."""
    aliases = {
        "train": ("train", "training"),
        "valid": ("valid", "val", "validation", "dev"),
        "test": ("test", "testing"),
    }
    return next((part for part, names in aliases.items() if name.lower() in names), None)


def choose(name: str, options: Mapping[str, Any], source: str) -> Any:
    """`options[name]`, or an error with a suggestion."""
    if name not in options:
        raise UnknownName(f"data set of {source}", name, options)
    return options[name]
