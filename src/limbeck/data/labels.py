"""Labels as they stand in a source, made into tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..types import IGNORE, LabelKind

RawLabels = NDArray[Any] | Sequence[Any]
"""Numbers (one-dimensional, or one column a target) or a list of texts; None, '' or NaN where there is no label."""


@dataclass(frozen=True)
class Labels:
    """All labels of a source."""

    values: Tensor
    """Class indices `(rows,)`, int64; or float32 `(rows, targets)`."""
    names: tuple[str, ...]
    """Name of each class or target."""
    texts: bool = False
    """Whether the names stood in the data, rather than numbers."""


def encode_labels(raw: RawLabels, kind: LabelKind, *, names: Sequence[str] = (), where: str) -> Labels:
    """Labels of a source as a tensor.

    Classes that are texts are numbered in sorted order; so are numbers that are not already 0 to K - 1. Several labels an
    example are either columns of 0 and 1 or texts such as `cat|dog`. Regression targets keep their units.

    Args:
        raw: labels of all rows.
        kind: what they mean.
        names: names of classes (then `raw` holds their indices) or of target columns, where the source knows them.
        where: names the source in messages.

    Raises:
        DataError: labels that are not of the kind that the task asks for.
    """
    if kind == "class":
        return _classes(raw, names, where)
    if kind == "multilabel":
        return _multilabel(raw, names, where)
    values = _numbers(raw, where)
    return Labels(values, _column_names(names, values.shape[1], "target"))


def _classes(raw: RawLabels, names: Sequence[str], where: str) -> Labels:
    values, known, texts = _one_column(raw, where)
    if not known.any():
        raise DataError(f"{where}: no row has a label.")
    if names:
        index = np.where(known, values, IGNORE).astype(np.int64)
        if index[known].min() < 0 or index[known].max() >= len(names):
            raise DataError(f"{where}: labels must lie between 0 and {len(names) - 1}, found {index[known].min()} to {index[known].max()}.")
        return Labels(torch.from_numpy(index), tuple(names), texts=True)
    found, inverse = np.unique(values[known], return_inverse=True)
    if len(found) < 2:
        raise DataError(f"{where}: a classification needs at least two classes, found only {found[0]!s}.")
    if len(found) > max(known.sum() // 2, 2):
        raise DataError(
            f"{where}: {len(found)} different labels on {known.sum()} labelled rows, such as {', '.join(map(str, found[:3]))}; "
            "these are hardly classes. Check args.target, or use task: regression."
        )
    index = np.full(len(values), IGNORE, dtype=np.int64)
    index[known] = inverse.reshape(-1)
    return Labels(torch.from_numpy(index), tuple(str(name) for name in found.tolist()), texts=texts)


def _one_column(raw: RawLabels, where: str) -> tuple[NDArray[Any], NDArray[np.bool_], bool]:
    """Integer values or texts, which of them are labels, and whether they are texts."""
    array = raw if isinstance(raw, np.ndarray) and raw.dtype.kind in "iufb" else np.array([_plain(v) for v in raw], dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{where}: a classification has one label an example, found shape {tuple(array.shape)}. Use task: multilabel?")
    if array.dtype == object:
        known = np.array([v is not None for v in array], dtype=bool)
        numbers = _as_numbers([v for v in array if v is not None])
        if numbers is None:
            return np.array([str(v) if v is not None else "" for v in array], dtype=object), known, True
        filled = np.full(len(array), np.nan)
        filled[known] = numbers
        array = filled
    if array.dtype.kind == "f":
        known = np.isfinite(array) & (array != IGNORE)
        if (fraction := array[known][array[known] != np.round(array[known])]).size:
            raise DataError(f"{where}: {float(fraction[0])!r} is no class label; classes are whole numbers or texts. Use task: regression?")
        return np.where(known, array, 0).astype(np.int64), known, False
    values = array.astype(np.int64)
    return values, values != IGNORE, False


def _plain(value: Any) -> Any:
    """A label as a text, a number or None."""
    if isinstance(value, bytes | np.bytes_):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value != value else value  # noqa: PLR0124 - NaN is what differs from itself


def _as_numbers(values: Sequence[Any]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return None


def _multilabel(raw: RawLabels, names: Sequence[str], where: str) -> Labels:
    if not isinstance(raw, np.ndarray) and all(v is None or isinstance(v, str) for v in raw):
        return _tags([v.strip() if isinstance(v, str) else "" for v in raw])
    values = _numbers(raw, where)
    bad = values[values.isfinite() & (values != 0) & (values != 1)]
    if len(bad):
        raise DataError(f"{where}: the columns of a multi-label target hold 0 or 1, found {bad[0].item():g}.")
    return Labels(values, _column_names(names, values.shape[1], "label"), texts=bool(names))


def _tags(cells: list[str]) -> Labels:
    """Texts such as `cat|dog`; an empty one is unlabelled."""
    sets = [{tag.strip() for tag in cell.split("|")} - {""} for cell in cells]
    names = sorted(set().union(*sets))
    if not names:
        raise DataError("no row has a label.")
    position = {name: i for i, name in enumerate(names)}
    values = torch.zeros(len(cells), len(names))
    for row, tags in enumerate(sets):
        values[row, [position[tag] for tag in tags]] = 1.0
        if not tags:
            values[row] = torch.nan
    return Labels(values, tuple(names), texts=True)


def _numbers(raw: RawLabels, where: str) -> Tensor:
    """Finite numbers or NaN, `(rows, targets)`, float32."""
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "iufb":
        array = raw.astype(np.float64)
    else:
        rows = [row if isinstance(row, list | tuple | np.ndarray) else [row] for row in raw]
        array = np.array([[_number(cell, where, i) for cell in row] for i, row in enumerate(rows)], dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise DataError(f"{where}: targets must be one number or one row of numbers an example, found shape {tuple(array.shape)}.")
    array = np.where(np.isfinite(array), array, np.nan)
    if not np.isfinite(array).all(axis=1).any():
        raise DataError(f"{where}: no row has all its targets.")
    return torch.from_numpy(array.astype(np.float32))


def _number(cell: Any, where: str, row: int) -> float:
    plain = _plain(cell)
    if plain is None:
        return float("nan")
    try:
        return float(plain)
    except (TypeError, ValueError):
        raise DataError(f"{where}: the target of row {row} is {plain!r}, which is not a number. Use task: classification?") from None


def _column_names(names: Sequence[str], count: int, word: str) -> tuple[str, ...]:
    return tuple(names) if len(names) == count else tuple(f"{word} {i}" for i in range(count)) if count > 1 else (word,)
