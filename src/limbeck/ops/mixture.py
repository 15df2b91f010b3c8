"""Distributions that are mixed of two."""

from __future__ import annotations

import torch
from torch import Tensor

from .divergence import log_softmax


def log_mixture(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    r"""Logarithm of :math:`s\,softmax(a) + (1 - s)\,softmax(b)`, in float32 or wider.

    Args:
        first: a, `(batch, classes)`.
        second: b, of the same shape.
        share: s, from 0 to 1, `(batch,)`.

    Returns:
        `(batch, classes)`; finite where the inputs are, also where s is 0 or 1.
    """
    p, q = log_softmax(first), log_softmax(second)
    share = share.to(p.dtype)[:, None]
    return torch.logaddexp(p + share.log(), q + torch.log1p(-share))
