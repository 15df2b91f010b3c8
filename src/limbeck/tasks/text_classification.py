"""Classification of texts by transformers encoders: one class an example."""

from __future__ import annotations

from typing import ClassVar, final

import torch

from ..types import Batch, DataInfo
from ._classifier import Classifier
from .base import Kind


@final
class TextClassification(Classifier):
    """Texts or pairs of texts, one class an example; inputs are `input_ids`, `attention_mask` and what else the tokenizer gives."""

    data_kinds: ClassVar[tuple[Kind, ...]] = ("text",)

    def example(self, info: DataInfo, *, batch: int = 2, device: str = "meta") -> Batch:
        """Token numbers that every vocabulary has, of the longest length, without padding."""
        tokens = info.input_shape[0]
        ids = (torch.arange(batch * tokens).reshape(batch, tokens) % 2 + 2).to(device)
        inputs = {"input_ids": ids}
        if device != "meta":  # encoders read the mask's contents to see whether it hides anything; on meta there are none
            inputs["attention_mask"] = torch.ones_like(ids)
        return Batch(inputs, self._example_labels(info, batch, device), torch.arange(batch))
