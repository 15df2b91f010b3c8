"""Limits training and validation to some of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UnknownName
from .split import Rows


def of_classes(
    parts: dict[str, Rows], classes: NDArray[np.int64] | None, wanted: Sequence[str], names: tuple[str, ...], where: str
) -> dict[str, Rows]:
    """The parts with only the rows of the classes `wanted` in training and validation; the test part stays whole.

    Raises:
        DataError: where the labels are no classes, or nothing is left.
        UnknownName: for a class that there is not.
    """
    if classes is None:
        raise DataError("data.classes is for labels that are classes; leave it out.")
    for name in wanted:
        if name not in names:
            raise UnknownName("class", name, names, "These are the names that the data give to their classes.")
    kept = [names.index(name) for name in wanted]
    narrow = {part: rows if part == "test" else rows[np.isin(classes[rows], kept)] for part, rows in parts.items()}
    if empty := [part for part, rows in narrow.items() if len(rows) == 0]:
        raise DataError(f"data.classes: {where} has no example of {', '.join(map(repr, wanted))} in its {empty[0]} part.")
    return narrow
