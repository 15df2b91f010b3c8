"""Tagging: a class for every word of a text, such as parts of speech or named entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ..entities import marks_spans
from ..errors import SignalMissing
from ..evaluate.metrics import classification_metrics
from ..evaluate.spans import span_scores
from ..types import Batch, DataInfo, Signals
from ._classifier import MAXIMIZE, Classifier
from ._language import at_rows
from .base import Kind

_SPANS = {"precision": True, "recall": True, "f1": True}
"""Metrics of whole entities, where the tags mark some."""


@final
class TokenClassification(Classifier):
    """Texts by words, a class each; signals hold a row for the first token of every word."""

    data_kinds: ClassVar[tuple[Kind, ...]] = ("text",)
    language: ClassVar = "token_classification"
    named_by_data: ClassVar[bool] = True

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)

    def on(self, info: DataInfo) -> TokenClassification:
        """The task with the tags of `info`."""
        return TokenClassification(info.class_names)

    @property
    def better(self) -> Mapping[str, bool]:
        """The metrics of a classifier, over words; precision, recall and F1 of entities where the tags mark any, as `B-city` does."""
        return {**MAXIMIZE, **_SPANS} if marks_spans(self.names) else MAXIMIZE

    def signals(self, output: Any, features: Mapping[str, Tensor], batch: Batch) -> Signals:
        """Logits and tapped values of the first token of every word."""
        if batch.rows is None:
            raise SignalMissing("tagging needs batches that say where words begin (`Batch.rows`).")
        rows, shape = batch.rows, batch.tokens_shape
        kept = {path: at_rows(value, rows, shape, path) for path, value in features.items()}
        return Signals(features=kept) if output is None else Signals(at_rows(self.logits(output), rows, shape, "logits"), kept)

    def report(self, logits: Tensor, labels: Tensor, examples: Tensor | None = None) -> dict[str, float]:
        """Metrics over words, and of entities where the tags mark any.

        Args:
            logits: `(words, classes)`.
            labels: `(words,)`.
            examples: number of the sentence of each word, whose words lie together; one sentence where absent.
        """
        found = classification_metrics(logits, labels)
        if marks_spans(self.names):
            found |= span_scores(self._sentences(logits.argmax(1), examples), self._sentences(labels, examples))
        return found

    def _sentences(self, classes: Tensor, examples: Tensor | None) -> list[list[str]]:
        """Names of the tags, sentence by sentence."""
        names = [self.names[number] for number in classes.tolist()]
        changes = [] if examples is None else (examples.diff() != 0).nonzero()[:, 0].add(1).tolist()
        return [names[start:stop] for start, stop in pairwise([0, *changes, len(names)])]

    def example(self, info: DataInfo, *, batch: int = 2, device: str = "meta") -> Batch:
        """Token numbers that every vocabulary has, of the longest length, without padding; every token is a word."""
        tokens = info.input_shape[0]
        ids = (torch.arange(batch * tokens).reshape(batch, tokens) % 2).to(device)
        inputs = {"input_ids": ids}
        if device != "meta":  # a mask's contents are read to see whether it hides anything; on meta there are none
            inputs["attention_mask"] = torch.ones_like(ids)
        labels = torch.zeros(batch * tokens, dtype=torch.int64, device=device)
        return Batch(inputs, labels, torch.arange(batch), rows=torch.arange(batch * tokens, device=device))
