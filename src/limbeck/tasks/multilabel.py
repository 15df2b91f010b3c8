"""Classification with any number of labels an example, of images or tables."""

from __future__ import annotations

from typing import Any, ClassVar, final

from torch import Tensor

from ..evaluate.agreement import label_agreement
from ..evaluate.metrics import multilabel_metrics
from ..types import LabelKind
from .base import Kind, Task


@final
class Multilabel(Task):
    """Images or tables, any number of labels an example."""

    labels: ClassVar[LabelKind] = "multilabel"
    data_kinds: ClassVar[tuple[Kind, ...]] = ("image", "tabular")
    loss: ClassVar[str] = "bce"
    monitor: ClassVar[str] = "map"
    maximize: ClassVar = {"map": True, "micro_f1": True, "macro_f1": True, "nll": False, "auc": True}

    def metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Mean average precision, micro and macro F1, nll, AUC."""
        return multilabel_metrics(logits, labels)

    def predictions(self, logits: Tensor) -> Tensor:
        """1 where the probability of a label is above one half, else 0, `(examples, labels)`, int64."""
        return (logits > 0).long()

    def agreement(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Any] | None:
        """Share of equal decisions and mean KL a label."""
        return label_agreement(student, teacher)
