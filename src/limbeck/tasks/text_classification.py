"""Classification of texts by transformers encoders: one class an example."""

from __future__ import annotations

from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ..evaluate.agreement import class_agreement
from ..evaluate.metrics import classification_metrics
from ..types import Batch, DataInfo, LabelKind
from .base import Kind, Task
from .classification import MAXIMIZE, classifier_details


@final
class TextClassification(Task):
    """Texts or pairs of texts, one class an example; inputs are `input_ids`, `attention_mask` and what else the tokenizer gives."""

    labels: ClassVar[LabelKind] = "class"
    data_kinds: ClassVar[tuple[Kind, ...]] = ("text",)
    loss: ClassVar[str] = "cross_entropy"
    monitor: ClassVar[str] = "accuracy"
    maximize: ClassVar = MAXIMIZE

    def metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Accuracy, top-5 accuracy, nll, ece, Brier score, macro F1."""
        return classification_metrics(logits, labels)

    def predictions(self, logits: Tensor) -> Tensor:
        """Class indices, `(examples,)`."""
        return logits.argmax(1)

    def details(self, logits: Tensor, labels: Tensor) -> dict[str, Any]:
        """Reliability diagram and confusion matrix."""
        known = self._known(labels)
        return classifier_details(logits[known], labels[known])

    def agreement(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Any] | None:
        """Share of equal predictions and mean KL."""
        return class_agreement(student, teacher, labels)

    def example(self, info: DataInfo, *, batch: int = 2, device: str = "meta") -> Batch:
        """Token numbers that every vocabulary has, of the longest length, without padding."""
        tokens = info.input_shape[0]
        ids = (torch.arange(batch * tokens).reshape(batch, tokens) % 2 + 2).to(device)
        inputs = {"input_ids": ids}
        if device != "meta":  # encoders read the mask's contents to see whether it hides anything; on meta there are none
            inputs["attention_mask"] = torch.ones_like(ids)
        return Batch(inputs, self._example_labels(info, batch, device), torch.arange(batch))
