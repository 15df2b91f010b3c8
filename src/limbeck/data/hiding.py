"""The labels that training sees: those that are kept, of which some may be made wrong."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..types import IGNORE, LabelKind
from .hashing import uniform

_WHETHER, _WHICH = 33, 34
"""Purposes of random numbers, beside those of other files."""


def hidden_labels(values: Tensor, candidates: NDArray[np.int64], kept: NDArray[np.int64], labels: LabelKind) -> Tensor:
    """The labels of all rows, without those of the candidates that are not kept."""
    hidden = values.clone()
    without = torch.from_numpy(np.setdiff1d(candidates, kept))
    if labels == "joint":
        hidden[without, 1:] = torch.nan  # which data set an example comes from stays known
    else:
        hidden[without] = IGNORE if labels == "class" else torch.nan
    return hidden


def check_wrong(share: float, labels: LabelKind) -> None:
    """Refuses wrong labels where there is no other class.

    Raises:
        DataError: labels are no classes.
    """
    if share and labels != "class":
        raise DataError("data.wrong is for labels that are classes. Remove it.")


def wrong_labels(values: Tensor, rows: NDArray[np.int64], share: float, classes: int, seed: int) -> tuple[Tensor, str]:
    """The labels with some of those in `rows` replaced by another class, each of which is equally likely; and a note about it.

    Whether an example's label is wrong, and which class it then has, follows from `seed` and its row: it is wrong in every stage that
    asks for at least this share.

    Args:
        values: class of every row.
        rows: which have a label, in the training part.
        share: how likely it is that a label is wrong.
        classes: number of classes.
        seed: of the draws.
    """
    chosen = rows[uniform(seed, _WHETHER, rows) < share]
    moves = torch.from_numpy(1 + (uniform(seed, _WHICH, chosen) * (classes - 1)).astype(np.int64))
    changed, place = values.clone(), torch.from_numpy(chosen)
    changed[place] = (values[place] + moves) % classes
    return changed, f"{len(chosen)} of {len(rows)} training labels are wrong on purpose (data.wrong)."
