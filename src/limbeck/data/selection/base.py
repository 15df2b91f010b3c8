"""What every selection is: a score an example, of which the highest are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ...parts import check_fields
from ...types import labelled
from ..split import allot

Reads = Literal["labels", "logits", "features", "history", "losses"]


@dataclass(frozen=True)
class Evidence:
    """What is known of the candidates; all of the same length, in the same order.

    Attributes:
        index: position of each in the training data, `(examples,)`, int64.
        labels: classes `(examples,)`; `IGNORE` where unknown.
        logits: what a model says, `(examples, classes)`.
        features: what its last linear layer reads, `(examples, channels)`.
        history: whether the model was right after each epoch of its training, `(epochs, examples)`, bool.
        losses: cross-entropy with the label, of language the mean over the trained tokens of each example, `(models, examples)`: first
            that of the teacher, then those of the models that the method names (`Selection.judges`).
    """

    index: Tensor
    labels: Tensor
    logits: Tensor | None = None
    features: Tensor | None = None
    history: Tensor | None = None
    losses: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def of(self, rows: Tensor) -> Evidence:
        """Of some candidates only."""

        def part(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[rows]

        history = None if self.history is None else self.history[:, rows]
        losses = None if self.losses is None else self.losses[:, rows]
        own = {"logits": part(self.logits), "features": part(self.features), "history": history, "losses": losses}
        return replace(self, index=self.index[rows], labels=self.labels[rows], **own)


@dataclass(frozen=True)
class Amount:
    """How many to keep: a fraction of the candidates, or a number of them (of each class, where a method chooses by class)."""

    fraction: float | None = None
    top: int | None = None

    def of(self, total: int) -> int:
        """Of so many candidates; at least one, at most all.

        Raises:
            DataError: where neither is given.
        """
        if self.fraction is None and self.top is None:
            raise DataError("a selection needs a fraction of the examples (fraction) or a number of them (top).")
        wanted = self.top if self.top is not None else round((self.fraction or 0.0) * total)
        return min(max(wanted, 1), total)


@dataclass(frozen=True, kw_only=True)
class Selection(ABC):
    """Base of all methods of selection; its fields are keys beside `method`."""

    reads: ClassVar[tuple[Reads, ...]] = ()
    """What it needs to know of the candidates; with nothing but `labels` no model is run."""
    judges: ClassVar[tuple[str, ...]] = ()
    """Its fields that name further models of the recipe, which are asked for their losses as the teacher is."""
    taught: ClassVar[bool] = False
    """Whether the choice itself is what the student learns from its teacher; the student alone then keeps as many at random."""

    balanced: bool = False
    """From each class in proportion to its candidates, by their labels; those without a label are a class of their own."""

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def scores(self, evidence: Evidence) -> Tensor:
        """Score of each candidate, `(examples,)`, float64; the highest are kept."""

    def choose(self, evidence: Evidence, amount: Amount) -> tuple[Tensor, Tensor]:
        """The candidates that are kept.

        Returns:
            Their positions among the candidates, ascending, and the score of every candidate.
        """
        if not self.balanced:
            scores = self.scores(evidence)
            return largest(scores, amount.of(len(evidence))), scores
        classes = evidence.labels.numpy()
        names, counts = np.unique(classes, return_counts=True)
        total = amount.of(len(evidence))
        scores = torch.empty(len(evidence), dtype=torch.float64)
        kept: list[Tensor] = []
        for name, count in zip(names.tolist(), allot(counts, total, least=min(1, total // len(names)), spare=0).tolist(), strict=True):
            rows = (evidence.labels == name).nonzero().flatten()
            scores[rows] = self.scores(evidence.of(rows))
            kept.append(rows[largest(scores[rows], count)])
        return torch.cat(kept).sort().values, scores


def largest(scores: Tensor, count: int) -> Tensor:
    """Positions of the `count` highest scores, ascending; the first of equals."""
    return scores.sort(descending=True, stable=True).indices[:count].sort().values


def need_labels(evidence: Evidence, method: str) -> Tensor:
    """The labels of candidates that all have one.

    Raises:
        DataError: where some have none.
    """
    missing = int((~labelled(evidence.labels)).sum())
    if missing:
        raise DataError(
            f"the selection {method!r} reads labels, and {missing} of {len(evidence)} candidates have none. "
            "Use another method, or data.label_fraction: 1 while it chooses."
        )
    return evidence.labels


def known(value: Tensor | None, what: str) -> Tensor:
    """Evidence that was asked for.

    Raises:
        DataError: where it was not gathered.
    """
    if value is None:
        raise DataError(f"the selection needs {what} of the candidates, which were not gathered.")
    return value.double() if value.is_floating_point() else value
