r"""The largest class probabilities and how they are to be completed.

With the stored probabilities :math:`p_1 \ge \dots \ge p_k` of C classes the completed distribution is

- tail: :math:`p_i` where stored, :math:`(1 - \sum p_i) / (C - k)` elsewhere: the mass of the tail is kept
  (`marginal_smoothing` of FKD, and TinyViT's)
- renormalised: :math:`p_i / \sum p_i` where stored, 0 elsewhere (`marginal_renorm` of FKD)
- smoothing: :math:`p_1` for the first class, :math:`(1 - p_1) / (C - 1)` elsewhere (`smoothing` of FKD)
- hard: 1 for the first class

Reference: Shen, Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", ECCV 2022, arXiv:2112.01528; Wu et al.,
"TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV 2022, arXiv:2207.10666.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from ...errors import LimbeckError
from ...types import Positive, PositiveInt
from .base import Codec, Layout

Completion = Literal["tail", "renormalised", "smoothing", "hard"]
FLOOR = 1e-12
"""Probability that stands for zero, whose logarithm is finite."""


def complete(index: Tensor, value: Tensor, *, classes: int, completion: Completion) -> Tensor:
    """Probabilities `(batch, classes)` from the stored ones, `(batch, k)` classes and values, largest first."""
    value = value.float()
    if completion in ("smoothing", "hard"):
        index, value = index[:, :1], value[:, :1] if completion == "smoothing" else torch.ones_like(value[:, :1])
    if completion == "renormalised":
        value = value / value.sum(1, keepdim=True)
    rest = (1 - value.sum(1, keepdim=True)) / max(classes - index.shape[1], 1)
    if completion in ("renormalised", "hard"):
        rest = torch.zeros_like(rest)
    return rest.expand(-1, classes).scatter(1, index.long(), value)


@final
@dataclass(frozen=True, kw_only=True)
class TopK(Codec):
    """A few classes of each example; read back as log-probabilities, whose softmax is the completed distribution."""

    k: PositiveInt = 10
    """Number of classes that are kept."""
    dtype: Literal["fp16", "fp32"] = "fp16"
    """Type of the probabilities; indices take 2 bytes up to 65,536 classes and 4 above."""
    completion: Completion = "tail"
    """What the other classes get."""
    temperature: Positive = 1.0
    """Softmax temperature of the probabilities that are stored; a loss that reads them divides by its own on top."""

    def completed(self, completion: str | None, keep: int | None) -> Codec:
        """With another completion, and of the first `keep` probabilities only."""
        if keep is not None and keep > self.k:
            raise LimbeckError(f"the store keeps {self.k} probabilities an example, `keep` asks for {keep}.")
        return replace(self, completion=completion or self.completion, k=keep or self.k)  # pyright: ignore[reportArgumentType] - checked when it is made

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """k indices and k probabilities."""
        if len(shape) != 1:
            raise LimbeckError(f"the codec topk stores class probabilities (classes,), found a signal of shape {list(shape)}; use dense.")
        if self.k >= shape[0]:
            raise LimbeckError(f"the codec topk keeps fewer than all classes: k is {self.k}, the signal has {shape[0]}. Use dense.")
        small = shape[0] <= 2**16
        return {
            "index": (torch.uint16 if small else torch.int32, (self.k,)),
            "value": (torch.float16 if self.dtype == "fp16" else torch.float32, (self.k,)),
        }

    def encode(self, signal: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The k largest, in falling order."""
        layout = self.layout(tuple(signal.shape[1:]))
        value, where = (signal.detach().float() / self.temperature).softmax(1).topk(self.k, dim=1)
        return {"index": where.cpu().to(layout["index"][0]), "value": value.cpu().to(layout["value"][0])}

    def decode(self, arrays: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Log-probabilities times the temperature, so that they are logits at temperature 1."""
        index = arrays["index"].to(torch.int32 if arrays["index"].dtype != torch.uint16 else torch.int64)
        full = complete(index[:, : self.k], arrays["value"][:, : self.k], classes=shape[0], completion=self.completion)
        return full.clamp_min(FLOOR).log() * self.temperature
