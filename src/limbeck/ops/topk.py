"""Divergences from a teacher of whom only the likeliest classes are known, by what is made of the others."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .closed_form import closed_form
from .divergence import Divergence, divergence, log_softmax, total_of
from .precision import widen

Rest = Literal["tail", "teacher", "renormalised", "zero", "partial"]


def log1mexp(x: Tensor) -> Tensor:
    """Logarithm of 1 - exp(x), exact near 0 and far below; minus infinity, without a gradient, where x is not below 0."""
    whole = x >= 0
    near = x > -math.log(2)  # mutate: equivalent comparison, function, constant (both formulas are exact around it)
    close = x.masked_fill(whole | ~near, -0.5)  # mutate: equivalent operator, constant (not read)
    far = x.masked_fill(near, -1.0)  # mutate: equivalent operator, constant (not read)
    return torch.where(near, (-torch.expm1(close)).log(), torch.log1p(-far.exp())).masked_fill(whole, -math.inf)


def log_rest(log_p: Tensor) -> Tensor:
    """Logarithm of the probability that is left beside the given ones, `(..., k)` to `(...)`.

    It is minus infinity where they hold all up to rounding, which would else be all that is left.
    """
    total = log_p.exp().sum(-1)
    most = 1 - 4 * torch.finfo(total.dtype).eps
    return torch.log1p(-total.masked_fill(total > most, 1))


def tempered(log_p: Tensor, *, power: float, tail: bool) -> Tensor:
    """The given probabilities raised to `power` and normalised again: those of the temperature 1 at 1 / power, as far as they are known.

    Args:
        log_p: logarithms of some of a distribution's probabilities, `(..., k)`.
        power: 1 / T, or the ratio of the temperature that they have to the one that is wanted.
        tail: whether what they leave is one more class; else it is taken to be nothing.

    Returns:
        Logarithms, `(..., k)`; with a tail they still leave its part.
    """
    if not tail:
        return log_softmax(power * log_p)
    return log_softmax(power * torch.cat([log_p, log_rest(log_p).unsqueeze(-1)], -1))[..., :-1]


def parted(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities of some classes, and of the sum of all others, exact also where that is tiny.

    Args:
        logits: of all classes, `(..., classes)`.
        index: the classes, none twice, `(..., k)`.

    Returns:
        `(..., k)` and `(...)`; the second is minus infinity where no other class is.
    """
    known, left = _Parted.apply(logits, index)  # pyright: ignore[reportGeneralTypeIssues]
    return known, left.squeeze(-1)


def _parts(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of the probabilities of the classes and of the sum of all others, `(..., 1)`; and the softmax over the others."""
    # The least number, not minus infinity, so that the softmax is one also where there are no others.
    least = torch.finfo(logits.dtype).min
    others = logits.scatter(-1, index, least)
    most = others.amax(-1, keepdim=True)
    others = others.softmax(-1)
    # The likeliest of the others has one part of their sum by its own distance from itself.
    left = (most - others.amax(-1, keepdim=True).log()).masked_fill(most <= least, -math.inf)
    known = torch.cat([logits.gather(-1, index), left], -1).log_softmax(-1)
    return known[..., :-1], known[..., -1:], others


def _coarse_divergence(logits: Tensor, index: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """KL from the teacher's logarithms of those classes and of the rest, `(..., k + 1)`, to `(..., 1)`, with its slope."""
    known, left, others = _parts(logits, index)
    log_q, p = torch.cat([known, left], -1), log_p.exp()
    slope = log_q.exp() - p
    value = total_of(p * (log_p - log_q), log_p, log_q).unsqueeze(-1)
    return value, (others * slope[..., -1:]).scatter(-1, index, slope[..., :-1])


class _Parted(torch.autograd.Function):
    """With its gradient in closed form: what is left is summed up, exactly, and that sum is all that is needed of all classes."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        known, left, others = _parts(logits, index)
        ctx.save_for_backward(others, known, left, index)
        return known, left

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_known: Tensor, of_left: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        others, known, left, index = ctx.saved_tensors
        everything = of_known.sum(-1, keepdim=True) + of_left
        rate = of_left - everything * left.exp()
        gradient = (others * rate).scatter_(-1, index, of_known - everything * known.exp())
        return gradient, None


def topk_divergence(log_p: Tensor, index: Tensor, q_logits: Tensor, *, rest: Rest, kind: Divergence, weight: float) -> Tensor:
    r"""A divergence of the student from k classes of the teacher, `(..., k)` to `(...)`.

    What is made of all other classes:

    - `tail`: they are one more class of both. It is a divergence (zero where the two agree as far as is known, and never negative), and
      at most that of all classes.
    - `teacher`: the teacher never says them: its k probabilities are normalised to 1, and the student's own are taken as they are.
    - `renormalised`: both are normalised over the k classes, so that what the student says of the others is free.
    - `zero`: the teacher's k probabilities stay as they are and the others are 0.
    - `partial`: they are left out of the sum, and nothing is normalised. It can be negative, and is not least where the two agree.

    Args:
        log_p: logarithms of the teacher's probabilities, of all its classes the k that are known, `(..., k)`.
        index: which classes they are, `(..., k)`.
        q_logits: the student's logits of all classes, `(..., classes)`.
        rest: what is made of the other classes.
        kind: which divergence.
        weight: as in `divergence`.
    """
    q_logits = widen(q_logits)
    if rest == "renormalised":
        return divergence(log_softmax(log_p), log_softmax(q_logits.gather(-1, index)), kind=kind, weight=weight)
    if rest == "partial" or (rest == "tail" and index.shape[-1] == q_logits.shape[-1]):
        return divergence(log_p, parted(q_logits, index)[0], kind=kind, weight=weight)
    if rest == "teacher":
        log_p = log_softmax(log_p)
    left = log_rest(log_p) if rest == "tail" else torch.full_like(log_p[..., 0], -math.inf)
    theirs = torch.cat([log_p, left.unsqueeze(-1)], -1)
    if kind == "forward":
        return closed_form(_coarse_divergence, q_logits, index, theirs).squeeze(-1)
    known, ours = parted(q_logits, index)
    return divergence(theirs, torch.cat([known, ours.unsqueeze(-1)], -1), kind=kind, weight=weight)
