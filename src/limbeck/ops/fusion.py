"""One feature from several."""

from __future__ import annotations

from typing import Literal

from torch import Tensor


def scaled_sum(sources: Tensor, scales: Tensor, *, normalise: Literal["none", "mean", "softmax"] = "none") -> Tensor:
    r""":math:`\sum_k \omega_k \odot a_k` of K sources.

    Args:
        sources: `(..., sources, channels)`.
        scales: :math:`\omega`, one a source `(sources, 1)` or one a channel of each `(sources, channels)`.
        normalise: the scales as they are, divided by their sum over the sources, or their softmax over the sources.

    Returns:
        `(..., channels)`.
    """
    if normalise == "mean":
        scales = scales / scales.sum(0)
    elif normalise == "softmax":
        scales = scales.softmax(0)
    return (sources * scales).sum(-2)
