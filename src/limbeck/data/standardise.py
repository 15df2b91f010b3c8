"""Targets of a regression in units of the deviation of those that are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, LimbeckError
from ..types import LabelKind
from .joint import Joint


def standardises(args: Mapping[str, Any]) -> bool:
    """Whether the arguments of a source ask for standardised targets."""
    return args.get("standardise_target") is True


def standardise(values: Tensor, kept: NDArray[np.int64], kind: LabelKind, names: tuple[str, ...], source: str) -> tuple[Tensor, str]:
    """The targets, by mean and deviation of those in the rows `kept`, and what should be said of it.

    Raises:
        LimbeckError: where the labels are no targets.
        DataError: where no row is kept.
    """
    if kind != "real":
        raise LimbeckError(f"{source}: standardise_target is for regression.")
    return _standardised(values, values[torch.from_numpy(kept)], names, source)


def standardise_share(joint: Joint, name: str, train: NDArray[np.int64], notes: list[str]) -> Joint:
    """The targets of a data set by all its labelled training examples, so that all stages and teachers have the same units."""
    share, where = joint.shares[name], f"data.datasets.{name}"
    if share.labels != "real":
        raise DataError(f"{where}: standardise_target is for labels of kind 'real'.")
    values = joint.labels.values.clone()
    rows, columns = values[:, 0] == share.number, slice(1, 1 + share.outputs)
    values[rows, columns], note = _standardised(values[rows, columns], values[torch.from_numpy(train), columns], share.names, where)
    notes.append(f"{name}: {note}")
    return replace(joint, labels=replace(joint.labels, values=values))


def _standardised(values: Tensor, known: Tensor, names: tuple[str, ...], source: str) -> tuple[Tensor, str]:
    """Targets in units of the deviation of the known ones."""
    known = known.double()
    if len(known) == 0:
        raise DataError(f"{source}: standardise_target needs labelled training examples; raise data.label_fraction.")
    mean, std = known.mean(0), known.std(0, unbiased=False)
    std = torch.where(std > 0, std, torch.ones_like(std))
    told = "; ".join(f"{n}: mean {m:.6g}, deviation {s:.6g}" for n, m, s in zip(names, mean.tolist(), std.tolist(), strict=True))
    return ((values.double() - mean) / std).float(), f"targets are standardised by the labelled training examples ({told})."
