"""Columns of a table as one matrix, by the statistics of the training rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from .sources.base import Column
from .stores import TensorStore

MOST_CATEGORIES = 100
"""Categories of one column above which it is taken for an identifier or free text."""
FEW_CATEGORIES = 20
"""Categories up to which a column is never taken for one; between the two, it is where most rows have their own."""


class Matrix(TensorStore):
    """An encoded table.

    Args:
        values: `(rows, columns)`, float32.
        indicator: which columns hold 0 and 1 only, by construction; they are not standardised.
        columns: which column of the source each one comes from.
    """

    def __init__(self, values: Tensor, indicator: Tensor, columns: Sequence[str] = ()) -> None:
        super().__init__(values, columns)
        self.indicator = indicator

    def picked(self, columns: Sequence[str], where: str) -> Matrix:
        """A table with only some of its columns."""
        places = self.places(columns, where)
        return Matrix(self.values[:, places], self.indicator[places], [self.columns[place] for place in places])


def encode_columns(
    columns: Mapping[str, Column], train: NDArray[np.int64], *, categorical: Collection[str] = (), ordinal: bool = False, where: str
) -> tuple[Matrix, list[str]]:
    """The columns as float32 `(rows, columns)` and what was done to them.

    Numbers stay in their units (they are standardised by `DataInfo.mean` and `std` on the way into a model); missing ones
    become the training median, and a further column says where, if any is missing in training. Categories become one column
    each of 0 and 1 (or one column of ranks), those of the training rows only; missing and new ones are zero in all of them.

    Args:
        columns: numbers or texts by name.
        train: the training rows, from which medians and categories are learnt.
        categorical: number columns that are categories.
        ordinal: one column of ranks (-1 where missing or new) rather than one of 0 and 1 a category.
        where: names the source in messages.

    Raises:
        DataError: no column, or a column with too many categories.
    """
    if not columns:
        raise DataError(f"{where}: no input column is left. Check args.target, args.columns and args.drop.")
    blocks: list[NDArray[np.float32]] = []
    indicator: list[bool] = []
    origins: list[str] = []
    notes: list[str] = []
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and name not in categorical:
            new = _numbers(name, column, train, notes, where)
            blocks += new
            indicator += [False, True][: len(new)]
        else:
            texts = _as_texts(column)
            blocks.append(_categories(name, texts, train, notes, ordinal=ordinal, where=where))
            indicator += [not ordinal] * blocks[-1].shape[1]
        origins += [name] * (len(indicator) - len(origins))
    return Matrix(torch.from_numpy(np.concatenate(blocks, axis=1)), torch.tensor(indicator), origins), notes


def _numbers(name: str, column: NDArray[np.float64], train: NDArray[np.int64], notes: list[str], where: str) -> list[NDArray[np.float32]]:
    missing = ~np.isfinite(column)
    known = column[train][~missing[train]]
    if len(known) == 0:
        raise DataError(f"{where}: column {name!r} has no number in the training rows. Drop it: args.drop: [{name}].")
    median = float(np.median(known))
    block = np.where(missing, median, column).astype(np.float32)[:, None]
    if not missing.any():
        return [block]
    notes.append(f"column {name!r}: {int(missing.sum())} missing values became the training median {median:g}.")
    return [block, missing.astype(np.float32)[:, None]] if missing[train].any() else [block]


def _as_texts(column: Column) -> list[str | None]:
    if isinstance(column, np.ndarray):
        return [None if not np.isfinite(value) else f"{value:g}" for value in column.tolist()]
    return column


def _categories(
    name: str, texts: list[str | None], train: NDArray[np.int64], notes: list[str], *, ordinal: bool, where: str
) -> NDArray[np.float32]:
    seen = sorted({text for row in train.tolist() if (text := texts[row]) is not None})
    if not ordinal and len(seen) > (MOST_CATEGORIES if len(train) > 2 * len(seen) else FEW_CATEGORIES):
        raise DataError(
            f"{where}: column {name!r} has {len(seen)} different texts in {len(train)} training rows, such as {seen[0]!r}; "
            f"that is an identifier or free text, not a category. Drop it (args.drop: [{name}]) or use args.encoding: ordinal."
        )
    position = {text: i for i, text in enumerate(seen)}
    codes = np.array([-1 if text is None else position.get(text, -1) for text in texts])
    missing, new = sum(text is None for text in texts), sum(text is not None and text not in position for text in texts)
    if missing:
        notes.append(f"column {name!r}: {missing} missing values belong to no category.")
    if new:
        notes.append(f"column {name!r}: {new} values outside the training rows are of categories that training lacks.")
    if ordinal:
        return codes.astype(np.float32)[:, None]
    return (codes[:, None] == np.arange(max(len(seen), 1))[None, :]).astype(np.float32)
