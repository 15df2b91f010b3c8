"""A feature map or a sequence averaged over its positions, and mapped to fewer channels where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import LimbeckError
from ...types import NonNegativeInt, PositiveInt
from .base import Codec, Layout


@final
@dataclass(frozen=True, kw_only=True)
class Pooled(Codec):
    """What is left of a feature after pooling and a random projection; read back with the smaller shape."""

    size: PositiveInt | None = None
    """Height and width after adaptive average pooling of maps; None averages over all positions."""
    channels: PositiveInt | None = None
    """Channels after a projection by a random orthonormal matrix, which keeps distances up to a factor in expectation; None keeps all."""
    seed: NonNegativeInt = 0
    """Seed of the projection."""
    dtype: Literal["fp32", "fp16", "bf16"] = "fp16"
    """Type of the values."""

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """One array of the smaller shape."""
        kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[self.dtype]
        return {"values": (kind, self.reduced(shape))}

    def reduced(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what is kept of a signal of `shape`.

        Raises:
            LimbeckError: where the signal is neither a vector, tokens nor a map, or has too few channels.
        """
        if len(shape) not in (1, 2, 3) or (self.size is not None and len(shape) != 3):
            raise LimbeckError(f"the codec pooled stores vectors, tokens (`size` absent) or maps, found a signal of shape {list(shape)}.")
        channels = shape[0] if len(shape) == 3 else shape[-1]
        if self.channels is not None and self.channels > channels:
            raise LimbeckError(f"the codec pooled projects to at most the signal's own {channels} channels, asked for {self.channels}.")
        kept = self.channels or channels
        return (kept, self.size, self.size) if self.size is not None else (kept,)

    def encode(self, signal: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Pools, then projects."""
        kind, _ = self.layout(tuple(signal.shape[1:]))["values"]
        signal = signal.detach().float().cpu()
        if signal.ndim == 4:
            pooled = F.adaptive_avg_pool2d(signal, self.size) if self.size is not None else signal.mean((2, 3))
        else:
            pooled = signal.mean(1) if signal.ndim == 3 else signal
        if self.channels is not None:
            pooled = torch.einsum("bc...,ck->bk...", pooled, self._projection(pooled.shape[1]))
        return {"values": pooled.to(kind)}

    def _projection(self, channels: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.linalg.qr(torch.randn(channels, self.channels or channels, generator=generator))[0]

    def decode(self, arrays: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """The pooled values."""
        return arrays["values"].float()
