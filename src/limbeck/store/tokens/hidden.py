r"""The teacher's last hidden states; its head is kept once in the store.

Exact at every temperature and for every divergence, at 2 (or 1) bytes a channel: 8 kB a token of a teacher of width 4096, where the
logits of 151,936 tokens take 304 kB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ...errors import LimbeckError
from ...tokens import Hidden as States
from ...tokens import Projection, Tokens
from ..codecs.base import Layout
from .base import TokenCodec

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "int8": torch.int8}
_LEAST = 1e-30


@final
@dataclass(frozen=True, kw_only=True)
class Hidden(TokenCodec):
    """The state of every token, as the head reads it."""

    head: ClassVar[bool] = True

    dtype: Literal["bf16", "fp16", "fp32", "int8"] = "bf16"
    """Type of a channel; int8 is relative to the largest of the token's."""

    def layout(self, vocabulary: int, width: int) -> Layout:
        """The channels, and a scale beside int8."""
        if not width:
            raise _no_states()
        scale = {"scale": (torch.float32, ())} if self.dtype == "int8" else {}
        return {"values": (_TYPES[self.dtype], (width,)), **scale}

    def encode(self, said: Tokens, vocabulary: int, uniforms: Tensor) -> dict[str, Tensor]:
        """The states, rounded."""
        if not isinstance(said, States):
            raise _no_states()
        states = said.hidden.detach()
        if self.dtype != "int8":
            return {"values": states.to(_TYPES[self.dtype]).cpu()}
        scale = states.float().abs().amax(1).clamp_min(_LEAST) / 127
        return {"values": (states.float() / scale[:, None]).round().to(torch.int8).cpu(), "scale": scale.cpu()}

    def decode(self, arrays: Mapping[str, Tensor], vocabulary: int, head: Projection | None) -> States:
        """The states in the type of the head."""
        if head is None:
            raise LimbeckError("hidden states cannot be read without the head that they were made for.")
        states = arrays["values"]
        if self.dtype == "int8":
            states = states.float() * arrays["scale"][:, None]
        return States(states.to(head.weight.dtype), head)


def _no_states() -> LimbeckError:
    return LimbeckError("the codec hidden writes hidden states, and the teacher gives none. Write its tokens with topk.")
