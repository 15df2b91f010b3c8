"""Several data sets at once, each with labels of its own: one head for each, side by side in the outputs of one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ..evaluate.metrics import classification_metrics, multilabel_metrics, regression_metrics
from ..objective.share import labels_of
from ..types import DataInfo, LabelKind, Share
from ._classifier import MAXIMIZE
from .base import Kind, Task
from .multilabel import Multilabel
from .regression import Regression

_METRICS = {
    "class": (classification_metrics, MAXIMIZE, "accuracy"),
    "multilabel": (multilabel_metrics, Multilabel.maximize, "map"),
    "real": (regression_metrics, Regression.maximize, "r2"),
}
"""By kind of labels: the metrics, whether more is better, and the one that enters the score."""


@final
class Joint(Task):
    """Images or tables of several data sets with incompatible labels (`data.datasets`); `only` tells each term which one it is for."""

    labels: ClassVar[LabelKind] = "joint"
    data_kinds: ClassVar[tuple[Kind, ...]] = ("image", "tabular")
    loss: ClassVar[str] = ""
    monitor: ClassVar[str] = "score"
    maximize: ClassVar = {"score": True}
    named_by_data: ClassVar[bool] = True

    def __init__(self, shares: Mapping[str, Share] | None = None) -> None:
        self.shares = dict(shares or {})

    def on(self, info: DataInfo) -> Joint:
        """The task with the data sets of `info`."""
        return Joint(info.shares)

    @property
    def better(self) -> dict[str, bool]:
        """The score, and the metrics of every data set as `NAME.METRIC`."""
        own = {f"{name}.{key}": more for name, share in self.shares.items() for key, more in _METRICS[share.labels][1].items()}
        return {**self.maximize, **own}

    def metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """The metrics of every data set that has examples here; `score` is the mean of their accuracy, mAP or R squared.

        Args:
            logits: all outputs, `(examples, outputs)`.
            labels: as `Share` says.
        """
        found: dict[str, float] = {}
        scores: list[float] = []
        for name, share in self.shares.items():
            mine = labels[:, 0] == share.number
            if not mine.any():
                continue
            measure, _, primary = _METRICS[share.labels]
            own = measure(logits[mine, share.start : share.stop], labels_of(share, labels[mine]))
            scores.append(own[primary])
            found |= {f"{name}.{key}": value for key, value in own.items()}
        return {"score": sum(scores) / len(scores), **found}

    def predictions(self, logits: Tensor) -> Tensor:
        """The outputs of all data sets as they are, `(examples, outputs)`: which of them to read depends on the question."""
        return logits

    def _example_labels(self, info: DataInfo, batch: int, device: str) -> Tensor:
        width = max((1 if share.labels == "class" else share.outputs for share in info.shares.values()), default=1)
        return torch.zeros(batch, 1 + width, device=device)

    def agreement(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Any] | None:
        """Not defined: a teacher knows one of the data sets."""
        return None
