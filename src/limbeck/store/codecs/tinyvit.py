r"""The records of TinyViT's fast pre-training distillation, byte by byte.

4 + 4 k bytes an example, little endian: an int32 that tells the augmentation, k class indices as int16, k probabilities as float16,
largest first. On reading, the other classes share what is left: :math:`(1 - \sum p_i) / (C - k)`.

The int32 is the seed of the example's augmentation in TinyViT. Here augmentation is a function of the store's seed, of the view and of the
example's position, so it is this position.

Reference: Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV 2022, arXiv:2207.10666.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from ...errors import LimbeckError
from ...types import PositiveInt
from .base import Codec, Layout
from .topk import FLOOR, Completion, complete

MOST = 2**15 - 1
"""Most classes: the largest int16."""


def pack(seeds: Tensor, index: Tensor, value: Tensor) -> Tensor:
    """Records `(batch, 4 + 4 k)`, uint8.

    Args:
        seeds: `(batch,)`, each an int32.
        index: classes, `(batch, k)`, each an int16.
        value: probabilities, `(batch, k)`; rounded to float16.

    Raises:
        LimbeckError: where a class or a seed does not fit.
    """
    if index.numel() and int(index.max()) > MOST:
        raise LimbeckError(f"TinyViT's records tell at most {MOST:,} classes apart, found class {int(index.max()):,}. Use the codec topk.")
    if seeds.numel() and (int(seeds.max()) >= 2**31 or int(seeds.min()) < -(2**31)):
        raise LimbeckError("TinyViT's records hold seeds of 32 bits with a sign, found a larger one.")
    parts = [seeds.numpy().astype("<i4")[:, None], index.numpy().astype("<i2"), value.detach().float().numpy().astype("<f2")]
    return torch.from_numpy(np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts], 1))


def unpack(records: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Seeds `(batch,)` int64, classes `(batch, k)` int64 and probabilities `(batch, k)` float32 of records.

    Raises:
        LimbeckError: where their length is none of 4 + 4 k.
    """
    length = records.shape[1]
    if length < 8 or length % 4:
        raise LimbeckError(f"TinyViT's records have 4 + 4 k bytes, found {length}.")
    raw, k = np.ascontiguousarray(records.numpy()), (length - 4) // 4
    seeds, index, value = raw[:, :4], raw[:, 4 : 4 + 2 * k], raw[:, 4 + 2 * k :]
    return (
        torch.from_numpy(np.ascontiguousarray(seeds).view("<i4").astype(np.int64)[:, 0]),
        torch.from_numpy(np.ascontiguousarray(index).view("<i2").astype(np.int64)),
        torch.from_numpy(np.ascontiguousarray(value).view("<f2").astype(np.float32)),
    )


@final
@dataclass(frozen=True, kw_only=True)
class TinyViT(Codec):
    """TinyViT's records; read back as log-probabilities. `topk` keeps the same values in fewer bytes, of any number of classes."""

    k: PositiveInt = 100
    """Number of classes that are kept."""
    completion: Completion = "tail"
    """What the other classes get."""

    def completed(self, completion: str | None, keep: int | None) -> Codec:
        """With another completion."""
        if keep is not None:
            raise LimbeckError("`keep` reads stores of the codec topk; convert this one with --signal logits=topk:k=K.")
        return replace(self, completion=completion or self.completion)

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """One record."""
        if len(shape) != 1:
            raise LimbeckError(
                f"the codec tinyvit stores class probabilities (classes,), found a signal of shape {list(shape)}; use dense."
            )
        if self.k >= shape[0]:
            raise LimbeckError(f"the codec tinyvit keeps fewer than all classes: k is {self.k}, the signal has {shape[0]}. Use dense.")
        if shape[0] > MOST:
            raise LimbeckError(
                f"the codec tinyvit stores at most {MOST:,} classes, the signal has {shape[0]:,}. Use topk, which has no limit."
            )
        return {"record": (torch.uint8, (4 + 4 * self.k,))}

    def encode(self, signal: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The k largest probabilities, in falling order."""
        self.layout(tuple(signal.shape[1:]))
        value, where = signal.detach().float().softmax(1).topk(self.k, dim=1)
        return {"record": pack(index, where.cpu(), value.cpu())}

    def decode(self, arrays: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Log-probabilities."""
        _, index, value = unpack(arrays["record"])
        return complete(index, value, classes=shape[0], completion=self.completion).clamp_min(FLOOR).log()
