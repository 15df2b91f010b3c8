"""Regression of one or more numbers, from images or tables."""

from __future__ import annotations

from typing import Any, ClassVar, final

from torch import Tensor

from ..evaluate.metrics import regression_metrics
from ..types import LabelKind
from .base import Kind, Task


@final
class Regression(Task):
    """Images or tables, one or more numbers an example."""

    labels: ClassVar[LabelKind] = "real"
    data_kinds: ClassVar[tuple[Kind, ...]] = ("image", "tabular")
    loss: ClassVar[str] = "mse"
    monitor: ClassVar[str] = "rmse"
    maximize: ClassVar = {"rmse": False, "mae": False, "r2": True}

    def logits(self, output: Any) -> Tensor:
        """The predictions in a model's output, `(batch, targets)`; a model with one target may return `(batch,)`."""
        found = super().logits(output)
        return found[:, None] if found.ndim == 1 else found

    def metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Root mean square error, mean absolute error, R squared."""
        return regression_metrics(logits, labels)

    def predictions(self, logits: Tensor) -> Tensor:
        """The numbers themselves, `(examples, targets)`."""
        return logits
