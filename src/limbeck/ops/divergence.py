"""Divergences between distributions given by logits, zero at equality; and the cross-entropy, which is not."""

from __future__ import annotations

import math

import torch
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


def cross_entropy(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    r"""Cross-entropy :math:`-\sum p \log q` over the last dimension, `(..., classes)` to `(...)`, in nats; at equality the entropy."""
    return -(widen(p_logits).softmax(-1) * log_softmax(q_logits)).sum(-1)


def symmetric_kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    r"""Mean of :math:`KL(p \| q)` and :math:`KL(q \| p)`, half of Jeffreys' divergence; `(..., classes)` to `(...)`, in nats."""
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1) / 2


def jensen_shannon(p_logits: Tensor, q_logits: Tensor, *, mixture: float) -> Tensor:
    r"""Generalised Jensen-Shannon divergence over the last dimension.

    It is :math:`\pi KL(p \| m) + (1 - \pi) KL(q \| m)` with :math:`m = \pi p + (1 - \pi) q`, at most the entropy of the weights.

    Args:
        p_logits: `(..., classes)`.
        q_logits: of the same shape.
        mixture: the weight :math:`\pi` of p, between 0 and 1 and neither.

    Returns:
        `(...)`, in nats.
    """
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    weight_p, weight_q = log_p.new_tensor(math.log(mixture)), log_p.new_tensor(math.log1p(-mixture))
    # From the ratio of the two, so that the logarithm of m / p is exact where both are tiny.
    ratio = log_q - log_p
    p_to_m = -(log_p.exp() * torch.logaddexp(weight_p, weight_q + ratio)).sum(-1)
    q_to_m = -(log_q.exp() * torch.logaddexp(weight_p - ratio, weight_q)).sum(-1)
    return mixture * p_to_m + (1 - mixture) * q_to_m


def total_variation(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    r"""Half the sum of :math:`|p - q|` over the last dimension, between 0 and 1; `(..., classes)` to `(...)`."""
    return (log_softmax(p_logits).exp() - log_softmax(q_logits).exp()).abs().sum(-1) / 2


def bernoulli_kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence :math:`KL(p \| q)` of one coin for every logit, elementwise, in nats."""
    p_logits = widen(p_logits)
    # Of either side of the coin the probability is known from the other; the likelier side of p is taken, where nothing cancels.
    side = torch.ones_like(p_logits).copysign(p_logits)
    p_logits, q_logits = p_logits * side, q_logits * side  # mutate: equivalent operator (of 1 and -1)
    return F.logsigmoid(p_logits) - F.logsigmoid(q_logits) - (-p_logits).sigmoid() * (p_logits - q_logits)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities over the last dimension; half precision is widened to float32 first."""
    return widen(logits).log_softmax(-1)
