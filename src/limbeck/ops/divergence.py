"""Divergences between distributions given by logits, zero at equality; and the cross-entropy, which is not."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .closed_form import closed_form
from .precision import widen

Divergence = Literal["forward", "reverse", "symmetric", "js", "tv", "skew_forward", "skew_reverse", "cross_entropy"]


def kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence :math:`KL(p \| q)` over the last dimension, in float32 or wider.

    A class that p gives no probability at all (a logit of minus infinity, as of a masked vocabulary) counts 0, whatever q gives it.

    Args:
        p_logits: reference distribution, `(..., classes)`.
        q_logits: approximating distribution, of the same shape.

    Returns:
        `(...)`, in nats.
    """
    return relative_entropy(log_softmax(p_logits), log_softmax(q_logits))


def relative_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    r""":math:`\sum p (\log p - \log q)` of logarithms as they are, even of parts of distributions; `(..., k)` to `(...)`."""
    found: Tensor = _RelativeEntropy.apply(log_p, log_q)  # pyright: ignore[reportAssignmentType]
    return found


class _RelativeEntropy(torch.autograd.Function):
    """With its gradient in closed form: as quick as without masks, and finite where both logarithms are infinite."""

    @staticmethod
    def forward(ctx: Any, log_p: Tensor, log_q: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        p = log_p.exp()
        # p itself is enough, and spares an exponential, unless there are gradients by it.
        ctx.save_for_backward(*((log_p, log_q) if ctx.needs_input_grad[0] else (p,)))
        return total_of((log_p - log_q).mul_(p), log_p, log_q)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        first, *log_q = ctx.saved_tensors
        p, rate = first.exp() if log_q else first, gradient.unsqueeze(-1)
        gap = (first - log_q[0]).masked_fill(p == 0, 0) if log_q else None  # mutate: equivalent constant (it is multiplied by that p)
        of_p = p * rate * (gap + 1) if gap is not None else None
        return of_p, p * -rate if ctx.needs_input_grad[1] else None


def total_of(terms: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """The sum over the last dimension of what is made of `p` and `q`.

    Where p is 0 and a logarithm infinite the term is not a number, and counts nothing. A model that gave no numbers stays visible.
    """
    return terms.nansum(-1).masked_fill_(p[..., 0].isnan() | q[..., 0].isnan(), math.nan)


def cross_entropy(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    r"""Cross-entropy :math:`-\sum p \log q` over the last dimension, `(..., classes)` to `(...)`, in nats; at equality the entropy.

    A class to which p gives no probability counts 0.
    """
    return _cross(widen(p_logits).softmax(-1), log_softmax(q_logits))


def _cross(p: Tensor, log_q: Tensor) -> Tensor:
    found: Tensor = _CrossEntropy.apply(p, log_q)  # pyright: ignore[reportAssignmentType]
    return found


class _CrossEntropy(torch.autograd.Function):
    """With its gradient in closed form, for the same reasons."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, log_q: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(p, *((log_q,) if ctx.needs_input_grad[0] else ()))
        return -total_of(p * log_q, p, log_q)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        p, *logs = ctx.saved_tensors
        rate = -gradient.unsqueeze(-1)
        of_p = logs[0].masked_fill(p == 0, 0) * rate if logs else None  # mutate: equivalent constant (the gradient of p has p as a factor)
        return of_p, p * rate if ctx.needs_input_grad[1] else None


def symmetric_kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    r"""Mean of :math:`KL(p \| q)` and :math:`KL(q \| p)`, half of Jeffreys' divergence; `(..., classes)` to `(...)`, in nats."""
    return _mean_entropy(log_softmax(p_logits), log_softmax(q_logits))  # mutate: equivalent swapped (it is symmetric)


def _mean_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    gap = log_p.exp() - log_q.exp()
    return (gap * (log_p - log_q).masked_fill(gap == 0, 0)).sum(-1) / 2


def skewed_kl(p_logits: Tensor, q_logits: Tensor, *, skew: float) -> Tensor:
    r"""Divergence :math:`KL(p \| \lambda p + (1 - \lambda) q)` from a mixture that holds a part of p itself, at most :math:`-\log \lambda`.

    Args:
        p_logits: `(..., classes)`.
        q_logits: of the same shape.
        skew: the part :math:`\lambda`, at least 0 and below 1; with 0 it is `kl`.

    Returns:
        `(...)`, in nats.
    """
    return mixture_entropy(log_softmax(p_logits), log_softmax(q_logits), weight=skew)


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
    return _both_to_mixture(log_softmax(p_logits), log_softmax(q_logits), mixture)


def _both_to_mixture(log_p: Tensor, log_q: Tensor, mixture: float) -> Tensor:
    of_p = mixture_entropy(log_p, log_q, weight=mixture)
    return mixture * of_p + (1 - mixture) * mixture_entropy(log_q, log_p, weight=1 - mixture)


def mixture_entropy(log_p: Tensor, log_q: Tensor, *, weight: float) -> Tensor:
    r"""`relative_entropy` of p from the mixture that holds p by `weight`, at least 0 and below 1, and q by the rest."""
    if weight == 0:
        return relative_entropy(log_p, log_q)
    p = log_p.exp()
    own, other = log_p.new_tensor(math.log(weight)), log_p.new_tensor(math.log1p(-weight))
    # From the ratio of the two, so that the logarithm of m / p is exact where both are tiny.
    gap = (log_p - log_q).masked_fill(p == 0, 0)  # mutate: equivalent constant (it is multiplied by that p)
    return -(p * torch.logaddexp(own, other - gap)).sum(-1)


def total_variation(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    r"""Half the sum of :math:`|p - q|` over the last dimension, between 0 and 1; `(..., classes)` to `(...)`."""
    return _half_gap(log_softmax(p_logits), log_softmax(q_logits))  # mutate: equivalent swapped (it is symmetric)


def _half_gap(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2


def divergence(log_p: Tensor, log_q: Tensor, *, kind: Divergence, weight: float) -> Tensor:
    """One of the divergences by its name, of logarithms as they are, even of parts of distributions; `(..., k)` to `(...)`.

    Args:
        log_p: logarithms of the teacher's probabilities, `(..., k)`.
        log_q: the student's.
        kind: which one.
        weight: of the teacher in the mixture of `js`, of a distribution itself in that of `skew_forward` and `skew_reverse`; the
            others do not read it.
    """
    if kind in ("reverse", "skew_reverse"):
        log_p, log_q = log_q, log_p
    if kind == "js":
        return _both_to_mixture(log_p, log_q, weight)
    if kind in ("skew_forward", "skew_reverse"):
        return mixture_entropy(log_p, log_q, weight=weight)
    if kind == "cross_entropy":
        return _cross(log_p.exp(), log_q)
    return {"symmetric": _mean_entropy, "tv": _half_gap}.get(kind, relative_entropy)(log_p, log_q)


def common_support(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Both without the classes that either gives no probability at all, which then count 0 in every divergence; nothing is renormalised."""
    absent = (log_p == -math.inf) | (log_q == -math.inf)
    return log_p.masked_fill(absent, -math.inf), log_q.masked_fill(absent, -math.inf)


def adaptive_kl(p_logits: Tensor, q_logits: Tensor, *, head: float, ascending: bool) -> Tensor:
    r"""Mixture of :math:`KL(p \| q)` and :math:`KL(q \| p)`, by where the two distributions differ.

    The classes are split by p: the head are the likeliest ones, which together hold up to `head`, at least one; the tail are the others.
    The first divergence weighs as much as the share of the head in :math:`\sum |p - q|`, the second as much as that of the tail. No
    gradient passes through the weights. With `ascending` the tail is what is found first instead: the least likely classes that together
    hold less than `1 - head`.

    Args:
        p_logits: `(..., classes)`.
        q_logits: of the same shape.
        head: between 0 and 1.
        ascending: from which end the classes are counted, which decides where the one in the middle belongs.

    Returns:
        `(...)`, in nats.
    """
    return closed_form(_adaptive, widen(q_logits), widen(p_logits), head, ascending).squeeze(-1)


def _adaptive(q_logits: Tensor, p_logits: Tensor, head: float, ascending: bool) -> tuple[Tensor, Tensor]:
    log_p, log_q = p_logits.log_softmax(-1), q_logits.log_softmax(-1)
    p, q = p_logits.softmax(-1), q_logits.softmax(-1)  # on a CPU quicker than exponentials
    share = _share_of_tail(p.detach(), q.detach(), head, ascending)
    gap = log_p - log_q
    forward, reverse = (total_of(terms, log_p, log_q).unsqueeze(-1) for terms in (p * gap, q * -gap))
    # Where a logarithm is infinite, q is 0 and multiplied by the rest.
    rate = (1 - share) - share * (gap.nan_to_num(0, 0, 0) + reverse)  # mutate: equivalent constant (it is multiplied by 0)
    return (1 - share) * forward + share * reverse, q * rate - (1 - share) * p


def _share_of_tail(p: Tensor, q: Tensor, head: float, ascending: bool) -> Tensor:
    """What part of the difference of two distributions `(..., classes)` is in the tail of p, `(..., 1)`."""
    ordered, order = p.sort(-1, descending=not ascending)
    gap = (ordered - q.gather(-1, order)).abs()
    held = ordered.cumsum(-1)
    tail = held < 1 - head if ascending else held > head
    if not ascending:
        tail[..., 0] = False
    total = gap.sum(-1, keepdim=True)
    return (gap * tail).sum(-1, keepdim=True) / total.masked_fill(total == 0, 1)  # mutate: equivalent constant (0 is divided by it)


def smoothed_entropy(p: Tensor, q: Tensor, *, epsilon: float) -> Tensor:
    r""":math:`\sum p (\log (p + \epsilon) - \log (q + \epsilon))` of probabilities, as some public code has it; `(..., k)` to `(...)`."""
    return (p * ((p + epsilon).log() - (q + epsilon).log())).sum(-1)


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
