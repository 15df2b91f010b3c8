"""Pearson's correlation along a dimension, and how far it is from 1 on average."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .geometry import length, unit
from .precision import widen


def centred(x: Tensor, *, dim: int) -> Tensor:
    """`x` less its mean along `dim`."""
    x = widen(x)
    return x - x.mean(dim, keepdim=True)


def correlation_gap(x: Tensor, y: Tensor, *, dim: int) -> Tensor:
    """1 less the correlation of `x` and `y` along `dim`, from 0 to 2, on average over the other dimensions; to a scalar.

    It is half the squared distance of the standardised values, which does not cancel near 0: it is exactly 0 at equality. What is
    constant has no correlation and gets no gradient: the gap is 0 where both are constant, 1/2 where one is.
    """
    ours, theirs = (unit(centred(values, dim=dim), dim=dim) for values in (x, y))
    return F.mse_loss(ours, theirs, reduction="sum") * (x.shape[dim] / (2 * x.numel()))


def guarded_correlation(x: Tensor, y: Tensor, *, dim: int, epsilon: float) -> Tensor:
    """Correlation of `x` and `y` along `dim`, divided by the product of the lengths plus `epsilon`; 0 where one is constant."""
    x, y = centred(x, dim=dim), centred(y, dim=dim)
    return (x * y).sum(dim) / (length(x, dim=dim) * length(y, dim=dim) + epsilon)
