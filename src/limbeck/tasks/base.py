"""What a task is: how a batch goes through a model, what the output means, and which metrics judge it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from ..errors import DataError, ShapeMismatch, SignalMissing
from ..taps.tapped import Tapped
from ..types import PADDING, Batch, DataInfo, LabelKind, LanguageKind, Signals, labelled

if TYPE_CHECKING:
    from ..models.base import Normalization

Kind = Literal["image", "tabular", "text"]


class Task(ABC):
    """Base of all tasks. It has no state: one object serves every model."""

    labels: ClassVar[LabelKind]
    """What the labels mean."""
    data_kinds: ClassVar[tuple[Kind, ...]]
    """Kinds of data that it takes."""
    language: ClassVar[LanguageKind | None] = None
    """What is predicted of texts; None for tasks that are none of language."""
    loss: ClassVar[str]
    """The usual supervised loss."""
    monitor: ClassVar[str]
    """The metric that picks the best checkpoint unless the recipe names another."""
    maximize: ClassVar[Mapping[str, bool]]
    """Every metric of `report`, and whether more is better."""

    named_by_data: ClassVar[bool] = False
    """Whether there are metrics that are known only once the data are."""

    def on(self, info: DataInfo) -> Task:
        """The task as it is on these data; itself but for a task that reads something of them."""
        return self

    @property
    def better(self) -> Mapping[str, bool]:
        """Every metric that may be asked for on these data, and whether more is better."""
        return self.maximize

    @property
    def data_kind(self) -> Kind | None:
        """The kind of data that it needs; None where it takes several."""
        return self.data_kinds[0] if len(self.data_kinds) == 1 else None

    def forward(self, model: Callable[..., Any], batch: Batch, normalization: Normalization | None) -> Any:
        """What `model` returns for a batch: its inputs are one normalised tensor, or a mapping passed by name."""
        if isinstance(batch.inputs, Mapping):
            return model(**batch.inputs)
        return model(batch.inputs if normalization is None else batch.prepared(normalization.apply, normalization))

    def call(self, model: Callable[..., Any], normalization: Normalization | None, batch: Batch) -> Signals:
        """The signals of a model, or of a tapped model with what was captured."""

        result = self.forward(model, batch, normalization)
        output, features = result if isinstance(model, Tapped) else (result, {})
        signals = self.signals(output, features, batch)
        return replace(signals, extra={**signals.extra, PADDING: batch.inputs[PADDING]}) if _padded(batch) else signals

    def signals(self, output: Any, features: Mapping[str, Tensor], batch: Batch) -> Signals:
        """A model's output and its tapped values as signals.

        Args:
            output: a tensor, an object or mapping with `logits`, or a tuple that begins with them; None where the forward
                ended early.
            features: tapped values by path.
            batch: what the model was given.

        Raises:
            SignalMissing: where no logits are found in the output.
        """
        return Signals(features=features) if output is None else Signals(self.logits(output), features)

    def logits(self, output: Any) -> Tensor:
        """The logits in a model's output."""
        if isinstance(output, Tensor):
            return output
        found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        if found is None and isinstance(output, list | tuple) and output:
            found = output[0]
        if not isinstance(found, Tensor):
            keys = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
            raise SignalMissing(
                f"the model returns a {type(output).__name__}{keys}, in which no logits are found; "
                "it must return a tensor, something with `logits`, or a tuple that begins with them."
            )
        return found

    def check_head(self, logits: Any, info: DataInfo, *, model: str = "the model") -> None:
        """Checks that a model's logits fit the data's labels; works on the meta device.

        Args:
            logits: what the model gives for a batch; of a language model, hidden states with the head.
            info: the data.
            model: what the message calls the model.

        Raises:
            ShapeMismatch: where they have not the shape `(batch, outputs)`.
        """
        if logits.ndim == 2 and logits.shape[1] == info.num_outputs:
            return
        word = {"class": "classes", "multilabel": "labels", "real": "regression targets", "joint": "outputs"}.get(info.labels, "tokens")
        shape = f"(batch, {info.num_outputs})"
        raise ShapeMismatch(
            f"{model} gives outputs of shape {tuple(logits.shape)}, the data have {info.num_outputs} {word}: expected {shape}. "
            f"Give the model a head with {info.num_outputs} outputs, or use weights that were trained for these {word}."
        )

    def report(self, logits: Tensor, labels: Tensor, examples: Tensor | None = None) -> dict[str, float]:
        """Metrics of a model on the labelled examples.

        Args:
            logits: of all examples, `(examples, outputs)`.
            labels: of the same examples.
            examples: number of the example (sentence, question) that each row belongs to, for metrics of whole ones.

        Raises:
            DataError: where no example has a label.
        """
        known = self._known(labels)
        return self.metrics(logits[known], labels[known])

    @abstractmethod
    def metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Metrics of examples that all have labels."""

    @abstractmethod
    def predictions(self, logits: Tensor) -> Tensor:
        """What the model answers: class indices, 0 and 1 a label, or numbers."""

    def details(self, logits: Tensor, labels: Tensor) -> dict[str, Any]:
        """Further evidence for the report: `reliability` and `confusion`, where the task has them; plain numbers and lists."""
        return {}

    def agreement(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Any] | None:
        """How closely the student follows the teacher on the same examples; None where that is not defined."""
        return None

    def example(self, info: DataInfo, *, batch: int = 2, device: str = "meta") -> Batch:
        """A batch of made-up inputs of the right shapes, to try a model with.

        Args:
            info: the data.
            batch: number of examples.
            device: `meta` for shapes only.
        """
        if device == "meta":
            inputs = torch.empty((batch, *info.input_shape), device="meta")
        else:
            inputs = torch.rand((batch, *info.input_shape), generator=torch.Generator().manual_seed(0)).to(device)
        return Batch(inputs, self._example_labels(info, batch, device), torch.arange(batch))

    def _example_labels(self, info: DataInfo, batch: int, device: str) -> Tensor:
        if self.labels == "class":
            return torch.zeros(batch, dtype=torch.int64, device=device)
        return torch.zeros(batch, info.num_outputs, device=device)

    def _known(self, labels: Tensor) -> Tensor:
        known = labelled(labels)
        if not known.any():
            raise DataError("no example to evaluate has a label.")
        return known


def _padded(batch: Batch) -> bool:
    """Whether the inputs are texts that tell their padding."""
    return isinstance(batch.inputs, Mapping) and PADDING in batch.inputs
