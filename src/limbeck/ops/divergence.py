"""Divergences between categorical distributions given by logits; all zero at equality."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .precision import widen


def kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence :math:`KL(p \| q)` over the last dimension, in float32 or wider.

    Args:
        p_logits: reference distribution, `(..., classes)`.
        q_logits: approximating distribution, of the same shape.

    Returns:
        `(...)`, in nats.
    """
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities over the last dimension; half precision is widened to float32 first."""
    return widen(logits).log_softmax(-1)
