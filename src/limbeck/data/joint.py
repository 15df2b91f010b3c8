"""Several data sets with labels of their own, as one: what a student with a head for each of them learns from together.

The rows stand one data set after the other. `Share` says how their labels are written in one matrix, and which of the student's outputs
belong to which data set. Each data set is cut by itself, so that each has its part of every split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, UnknownName
from ..types import IGNORE, LabelKind, Share, labelled
from .labels import Labels, encode_labels
from .pools import join, size_of
from .sources.base import Pool
from .split import Rows


@dataclass(frozen=True)
class DatasetRequest:
    """One of several data sets; the plain form of an entry of a recipe's `data.datasets`."""

    source: str
    labels: LabelKind
    """What its own labels mean: `class`, `multilabel` or `real`."""
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Joint:
    """Several data sets, read."""

    pool: Pool
    labels: Labels
    """As `Share` says; the names are those of all outputs."""
    shares: dict[str, Share]

    @property
    def owner(self) -> NDArray[np.int64]:
        """Number of the data set of every row."""
        return self.labels.values[:, 0].long().numpy()

    def strata(self) -> NDArray[np.int64]:
        """One number for the rows of a data set and, where its labels are classes, of a class; all choices are made in proportion."""
        classes = np.zeros(len(self.owner), dtype=np.int64)
        for share in self.shares.values():
            if share.labels == "class":
                own = self.owner == share.number
                classes[own] = self.classes(share)[own]
        return (self.owner << 32) + np.where(classes == IGNORE, -1, classes) + 1

    def classes(self, share: Share) -> NDArray[np.int64]:
        """Class of every row, of which only those of the data set `share` mean anything."""
        return self.labels.values[:, 1].nan_to_num(IGNORE).long().numpy()


def read_joint(requests: Mapping[str, DatasetRequest], read: Callable[[DatasetRequest, str], Pool]) -> Joint:
    """All data sets, one after the other.

    Args:
        requests: by name.
        read: gives all rows of one; its second argument is the place of the request in the recipe.

    Raises:
        DataError: where the inputs do not go together, or labels are not of their kind.
    """
    whole: Pool | None = None
    encoded: list[Labels] = []
    shares: dict[str, Share] = {}
    parts: dict[str, list[Rows]] = {}
    rows = outputs = 0
    for name, request in requests.items():
        where = f"data.datasets.{name}"
        pool = read(request, where)
        try:
            whole = pool if whole is None else join(whole, pool, request.source)
        except DataError as error:
            raise DataError(str(error).replace("data.pool:", f"{where}:").replace("training data", "first data set")) from None
        labels = encode_labels(pool.labels, request.labels, names=pool.names, where=f"{where} ({request.source})")
        shares[name] = Share(len(shares), request.labels, outputs, outputs + len(labels.names), labels.names)
        for part, own in pool.parts.items():
            parts.setdefault(part, []).append(own + rows)
        encoded.append(labels)
        outputs, rows = outputs + len(labels.names), rows + size_of(pool)
    if whole is None or len(requests) < 2:
        raise DataError("data.datasets: several data sets are learnt together, so there must be two or more.")
    notes = [f"{name}: {share.outputs} outputs from {share.start} on, labels of kind {share.labels!r}." for name, share in shares.items()]
    pool = replace(whole, parts={part: np.concatenate(own) for part, own in parts.items()}, notes=notes)
    names = tuple(f"{name}: {own}" for name, share in shares.items() for own in share.names)
    return Joint(pool, Labels(_matrix(encoded), names, texts=True), shares)


def _matrix(encoded: Sequence[Labels]) -> Tensor:
    """The labels of all data sets as `Share` says."""
    columns = [labels.values[:, None] if labels.values.ndim == 1 else labels.values for labels in encoded]
    width = max(values.shape[1] for values in columns)
    blocks: list[Tensor] = []
    for number, values in enumerate(columns):
        block = torch.zeros(len(values), 1 + width)
        block[:, 0] = number
        block[:, 1 : 1 + values.shape[1]] = values.float() if values.is_floating_point() else _floats(values)
        blocks.append(block)
    return torch.cat(blocks)


def _floats(classes: Tensor) -> Tensor:
    """Classes as numbers, NaN where there is none."""
    return classes.float().masked_fill(classes == IGNORE, torch.nan)


def cut_joint(
    joint: Joint, own: Mapping[str, Rows], cut: Callable[[dict[str, Rows], Rows, NDArray[np.bool_]], dict[str, Rows]]
) -> dict[str, Rows]:
    """Every part, of each data set cut by itself.

    Args:
        joint: the data sets.
        own: rows of the parts that the sources have.
        cut: completes the parts of one data set, from them, the strata, and which rows have a label.
    """
    known, owner, strata = labelled(joint.labels.values).numpy(), joint.owner, joint.strata()
    parts: dict[str, list[Rows]] = {}
    for share in joint.shares.values():
        held = {part: rows[owner[rows] == share.number] for part, rows in own.items()}
        for part, rows in cut({part: rows for part, rows in held.items() if len(rows)}, strata, known).items():
            parts.setdefault(part, []).append(rows)
    return {part: np.concatenate(rows) for part, rows in parts.items()}


def only_of(joint: Joint, parts: Mapping[str, Rows], wanted: Sequence[str]) -> dict[str, Rows]:
    """The parts with only the rows of the data sets `wanted` in training and validation; the test part stays whole.

    Raises:
        UnknownName: for a data set that there is not.
    """
    for name in wanted:
        if name not in joint.shares:
            raise UnknownName("data set", name, joint.shares, "These are the names under data.datasets.")
    numbers = [joint.shares[name].number for name in wanted]
    return {part: rows if part == "test" else rows[np.isin(joint.owner[rows], numbers)] for part, rows in parts.items()}


def spread(order: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same order with the examples of every group spread evenly over it, so that each stretch holds all groups in proportion.

    Args:
        order: of the examples.
        groups: group of every example.
    """
    place = np.empty(len(order))
    for group in np.unique(groups):
        mine = groups[order] == group
        count = int(mine.sum())
        place[mine] = (np.arange(count) + 0.5) / count
    return order[np.argsort(place, kind="stable")]
