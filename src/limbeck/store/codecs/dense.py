"""Every value of the signal, in the precision that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from .base import Codec, Layout

_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}


@final
@dataclass(frozen=True, kw_only=True)
class Dense(Codec):
    """Keeps everything; `int8` stores whole numbers from -127 to 127 and one scale an example."""

    dtype: Literal["fp32", "fp16", "bf16", "int8"] = "fp16"
    """fp16 has 11 significant bits and reaches 65,504; bf16 has 8 and the reach of fp32; int8 errs by 1/254 of the largest value."""

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """One array of values, and for int8 a scale."""
        values: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {"values": (_TYPES[self.dtype], shape)}
        return values | ({"scale": (torch.float32, ())} if self.dtype == "int8" else {})

    def encode(self, signal: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Rounds to the nearest; fp16 clips what it cannot reach to its largest value."""
        signal = signal.detach().float().cpu()
        if self.dtype == "int8":
            scale = signal.flatten(1).abs().amax(1) / 127
            divisor = scale.masked_fill(scale == 0, 1).reshape(-1, *[1] * (signal.ndim - 1))
            return {"values": (signal / divisor).round().to(torch.int8), "scale": scale}
        if self.dtype == "fp16":
            signal = signal.clamp(torch.finfo(torch.float16).min, torch.finfo(torch.float16).max)
        return {"values": signal.to(_TYPES[self.dtype])}

    def decode(self, arrays: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """The rounded values."""
        values = arrays["values"].float()
        if self.dtype == "int8":
            values = values * arrays["scale"].reshape(-1, *[1] * len(shape))
        return values
