"""Discrete cosine transform of maps, as two products with a matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .precision import widen, without_autocast


def dct_matrix(size: int, like: Tensor) -> Tensor:
    """The orthonormal DCT-II, `(size, size)`; row k is the cosine of frequency k. On the device of `like`, in its precision."""
    steps = torch.arange(size, device=like.device, dtype=torch.float64)
    waves = torch.cos(math.pi / size * steps.unsqueeze(1) * (steps + 0.5)) * math.sqrt(2 / size)
    waves = torch.cat([waves[:1] * math.sqrt(0.5), waves[1:]])
    return waves.to(like.dtype)


def dct2(x: Tensor) -> Tensor:
    """Two-dimensional orthonormal DCT-II of `(..., height, width)`; lengths and inner products stay what they are."""
    x = widen(x)
    with without_autocast(x):
        return dct_matrix(x.shape[-2], x) @ x @ dct_matrix(x.shape[-1], x).mT


def idct2(x: Tensor) -> Tensor:
    """The inverse of `dct2`."""
    x = widen(x)
    with without_autocast(x):
        return dct_matrix(x.shape[-2], x).mT @ x @ dct_matrix(x.shape[-1], x)


def frequencies(height: int, width: int, like: Tensor) -> Tensor:
    """How high the frequency of each coefficient is, `(height, width)`: 0 for the mean, towards 1 for the finest in either direction."""
    rows, columns = (torch.arange(size, device=like.device, dtype=like.dtype) / size for size in (height, width))
    return torch.maximum(rows.unsqueeze(1), columns)
