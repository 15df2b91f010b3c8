"""What classifying images, tables and texts have in common."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..evaluate.agreement import class_agreement
from ..evaluate.annotators import krippendorff_alpha
from ..evaluate.metrics import classification_metrics, confusion
from ..evaluate.reliability import reliability
from ..types import LabelKind
from .base import Task

MAXIMIZE = {
    **dict.fromkeys(("accuracy", "top5", "macro_f1", "balanced_accuracy", "sensitivity", "specificity", "auc"), True),
    **dict.fromkeys(("nll", "ece", "adaptive_ece", "classwise_ece", "brier", "aurc", "eaurc"), False),
}
"""The metrics of a classifier, and whether more is better."""


def classifier_details(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Reliability diagram and confusion matrix (rows are labels, columns predictions)."""
    return {"reliability": reliability(logits, labels), "confusion": confusion(logits.argmax(1), labels, logits.shape[1]).tolist()}


class Classifier(Task):
    """One class an example."""

    labels: ClassVar[LabelKind] = "class"
    loss: ClassVar[str] = "cross_entropy"
    monitor: ClassVar[str] = "accuracy"
    maximize: ClassVar = MAXIMIZE

    def metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Accuracy, top-5 accuracy, nll, calibration errors, Brier score, AURC, E-AURC, macro F1, sensitivity, specificity, AUC."""
        return classification_metrics(logits, labels)

    def predictions(self, logits: Tensor) -> Tensor:
        """Class indices, `(examples,)`."""
        return logits.argmax(1)

    def details(self, logits: Tensor, labels: Tensor) -> dict[str, Any]:
        """Reliability diagram and confusion matrix."""
        known = self._known(labels)
        return classifier_details(logits[known], labels[known])

    def agreement(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Any] | None:
        """Share of equal predictions, mean KL, and Krippendorff's alpha of student, teacher and labels (`alpha`)."""
        three = torch.stack([student.argmax(1), teacher.argmax(1), labels])
        return {**class_agreement(student, teacher, labels), "alpha": krippendorff_alpha(three)}
