"""Encoder-decoders: a text is predicted from another."""

from __future__ import annotations

from typing import ClassVar, final

import torch

from ..types import Batch, DataInfo
from ._language import Language


@final
class Seq2seqLm(Language):
    """Pairs of texts; each position of the decoder predicts the next token of the second from the whole first."""

    language: ClassVar = "seq2seq_lm"

    def example(self, info: DataInfo, *, batch: int = 2, device: str = "meta") -> Batch:
        """As of every language model, with the same tokens for the decoder."""
        plain = super().example(info, batch=batch, device=device)
        ids = plain.inputs["input_ids"]
        inputs = {**plain.inputs, "decoder_input_ids": ids, "decoder_attention_mask": plain.inputs["attention_mask"]}
        return Batch(inputs, plain.labels, torch.arange(batch), rows=plain.rows)
