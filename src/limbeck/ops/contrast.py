"""Telling one pair from pairs of noise."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def noise_contrast(scores: Tensor, counted: Tensor | None, *, examples: int, floor: float) -> Tensor:
    """Negative log-likelihood of telling the positive from the negatives.

    Args:
        scores: logarithms of the ratios `(..., batch, 1 + negatives)`, the positive first.
        counted: which negatives count, `(batch, negatives)`, bool; those that do stand for the others. None: all.
        examples: size M of the data set.
        floor: added to N / M in the denominators.

    Returns:
        `(..., batch)`.
    """
    negatives = scores.shape[-1] - 1
    noise = negatives / examples
    odds = scores - math.log(noise + floor)
    taken = F.softplus(odds[..., 1:]) + math.log1p(floor / noise)
    if counted is not None:
        taken = taken * counted * (negatives / counted.sum(1, keepdim=True).clamp_min(1))
    return F.softplus(-odds[..., 0]) + taken.sum(-1)
