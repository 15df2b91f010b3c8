r"""The likeliest tokens with their log-probabilities, and the mass of all others.

The k largest probabilities :math:`p_i` of a token's distribution and :math:`r = 1 - \sum p_i`: a loss that knows them takes the other
tokens as one, which bounds the divergence from below and never rewards mass that a student leaks. Ids take about
:math:`2 + \log_2 (V / k)` bits each. What is read is divided by the sum of all, so that rounding never makes more than 1 of it.

Reference: arXiv:1503.02531 for the softened distribution; for the byte formats of others see the documentation of the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ...errors import LimbeckError
from ...tokens import Projection, Tokens
from ...tokens import TopK as Likeliest
from ...types import Positive, PositiveInt
from ..codecs.base import Layout
from ._packing import pack, packed_bytes, unpack
from .base import TokenCodec, held, joined

_LEAST = 1e-6
"""Smallest mass of the tail: below, a sum of float32 probabilities no longer tells it from 0."""
_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "int8": torch.uint8}


@final
@dataclass(frozen=True, kw_only=True)
class TopK(TokenCodec):
    """A few tokens of each distribution."""

    k: PositiveInt = 64
    """Number of tokens that are kept."""
    dtype: Literal["fp16", "bf16", "fp32", "int8"] = "fp16"
    """Type of the log-probabilities; int8 keeps their square roots, in steps of 1/255 of the largest of the token's."""
    tail: Literal["kept", "implied"] = "kept"
    """Whether the mass of all others is written (2 bytes, as a logarithm; 4 beside fp32), or what is left of 1."""
    temperature: Positive = 1.0
    """Softmax temperature of the probabilities that are written."""

    def layout(self, vocabulary: int, width: int) -> Layout:
        """Packed ids, values, and the tail."""
        if self.k >= vocabulary:
            raise LimbeckError(f"the codec topk keeps fewer than all tokens: k is {self.k}, the vocabulary has {vocabulary}.")
        found: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            "ids": (torch.uint8, (packed_bytes(self.k, vocabulary),)),
            "values": (_TYPES[self.dtype], (self.k,)),
        }
        if self.dtype == "int8":
            found["scale"] = (torch.float16, ())
        if self.tail == "kept":
            found["tail"] = (torch.float32 if self.dtype == "fp32" else torch.float16, ())
        return found

    def encode(self, said: Tokens, vocabulary: int, uniforms: Tensor) -> dict[str, Tensor]:
        """The k largest of every token."""
        layout = self.layout(vocabulary, 0)
        if isinstance(said, Likeliest):
            return self._written(said.ids, self._given(said), vocabulary)
        parts = []
        for _, logits in held(said, vocabulary, "topk"):
            scaled = logits if self.temperature == 1 else logits / self.temperature
            value, where = scaled.topk(self.k, dim=1, sorted=False)
            parts.append(self._written(where, value - scaled.logsumexp(1, keepdim=True), vocabulary))
        return joined(parts, {name: torch.empty(0, *shape, dtype=dtype) for name, (dtype, shape) in layout.items()})

    def _given(self, said: Likeliest) -> Tensor:
        if said.ids.shape[1] < self.k:
            raise LimbeckError(f"the codec topk is to keep {self.k} tokens, the teacher names {said.ids.shape[1]}. Set k to that.")
        if said.temperature != self.temperature:
            raise LimbeckError(
                f"the teacher speaks at temperature {said.temperature:g}, the codec topk is to write {self.temperature:g}; only whole "
                "distributions can be softened. Leave temperature out, or store hidden states."
            )
        return said.log_probs

    def _written(self, ids: Tensor, log_probs: Tensor, vocabulary: int) -> dict[str, Tensor]:
        if ids.shape[1] > self.k:
            log_probs, picked = log_probs.topk(self.k, dim=1)
            ids = ids.gather(1, picked)
        ids, order = ids.cpu().long().sort(1)
        if len(ids) and int(ids.max()) >= vocabulary:
            raise LimbeckError(f"the teacher names token {int(ids.max())}, the data have {vocabulary} tokens: its tokenizer is another.")
        value = log_probs.detach().float().cpu().gather(1, order).clamp_max(0)
        found = {"ids": torch.from_numpy(pack(ids.numpy(), vocabulary))}
        if self.tail == "kept":
            found["tail"] = (1 - value.double().exp().sum(1)).clamp_min(_LEAST).log().to(_TYPES["fp32" if self.dtype == "fp32" else "fp16"])
        if self.dtype == "int8":
            scale = value.amin(1).neg().clamp(1e-3, 6e4).half()
            found["scale"] = scale
            share = (-value / scale.float()[:, None]).clamp(0, 1)
            found["values"] = (share.sqrt() * 255).round().to(torch.uint8)
        else:
            found["values"] = value.clamp_min(-6e4).to(_TYPES[self.dtype])
        return found

    def decode(self, arrays: Mapping[str, Tensor], vocabulary: int, head: Projection | None) -> Likeliest:
        """Ids in rising order, and log-probabilities that with the tail are exactly 1."""
        ids = torch.from_numpy(unpack(arrays["ids"].numpy(), self.k, vocabulary))
        value = arrays["values"].float()
        if self.dtype == "int8":
            value = (value / 255).square() * -arrays["scale"].float()[:, None]
        whole = value.logsumexp(1)
        if self.tail == "kept":
            whole = torch.logaddexp(whole, arrays["tail"].float())
        else:  # what rounding has made of 1 or more leaves the least that a tail can have
            whole = (whole - torch.log1p(torch.tensor(-_LEAST))).clamp_min(0)
        return Likeliest(ids, value - whole[:, None], self.temperature)
