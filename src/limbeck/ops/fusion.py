"""One feature, or one answer, from several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from .divergence import kl, log_softmax


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


STEP = 0.1  # mutate: equivalent constant (with longer steps more fine ones follow)
"""Distance of the weights that are tried first."""
FINE, MOST = 0.01, 2.0
"""Distance of those that are tried around the best of them, and the largest weight."""


def moved(large: Tensor, moves: Sequence[tuple[Tensor, Tensor]], weights: Tensor) -> Tensor:
    r"""Logits of a large model, moved as training has moved smaller ones: :math:`z + \sum_t \alpha_t (z_t^{after} - z_t^{before})`.

    Args:
        large: `(rows, classes)`.
        moves: logits of each smaller model after and before it was trained, `(rows, classes)` each.
        weights: `(moves, rows)`.

    Returns:
        `(rows, classes)`; a class that all rule out (minus infinity) stays so.
    """
    for (after, before), weight in zip(moves, weights, strict=True):
        large = large + weight[:, None] * _difference(after, before)
    return large


def found_weights(large: Tensor, moves: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    r"""Weights with which a large model moves as far as the smaller ones did, row by row (dynamic logit fusion).

    .. math:: \alpha^* = \arg\min_\alpha
              \sum_t \left(KL(\tilde P \| P) - KL(Q_t \| Q)\right)^2 + \left(KL(P \| \tilde P) - KL(Q \| Q_t)\right)^2

    with P what the large model says, :math:`\tilde P` the same when it is moved, Q and :math:`Q_t` what a smaller one says before and after
    its training. Weights are searched from 0 to 2, first in steps of 0.1, then in steps of 0.01 around the best; of equals the smallest.
    Of several moves one is used in each row, that with the smallest value of the objective.

    Args:
        large: `(rows, classes)`.
        moves: as for `moved`.

    Returns:
        `(moves, rows)`; all but one of each row are 0.

    Reference: Fan et al., "On Giant's Shoulders: Effortless Weak to Strong by Dynamic Logits Fusion", NeurIPS 2024, arXiv:2406.15480,
    section 3. The steps are from memory; no code was published.
    """
    far = [(kl(after, before), kl(before, after)) for after, before in moves]
    tried = [_search(large, _difference(after, before), far) for after, before in moves]
    misses = torch.stack([miss for _, miss in tried])
    first = misses.argmin(0)
    chosen = torch.arange(len(tried), device=first.device)[:, None] == first
    return torch.stack([weight for weight, _ in tried]) * chosen


def _search(large: Tensor, difference: Tensor, far: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The best weight of one move in every row, and how far it misses."""
    log_p = log_softmax(large)
    mean = (log_p.exp() * difference).sum(1)

    def missed(weight: Tensor) -> Tensor:
        """The objective: the divergences of P follow from the moved normaliser and the mean difference."""
        logits = log_p + weight[:, None] * difference
        normaliser = logits.logsumexp(1)
        there = weight * (logits.softmax(1) * difference).sum(1) - normaliser
        back = normaliser - weight * mean
        gaps = torch.stack([(there - one).square() + (back - other).square() for one, other in far])
        return gaps.sum(0)  # mutate: equivalent function (a mean is in the same order)

    like = {"device": large.device, "dtype": log_p.dtype}
    steps, finer = round(MOST / STEP), round(STEP / FINE)  # mutate: equivalent unwrapped (whole numbers)
    coarse = torch.arange(steps + 1, **like) * STEP  # mutate: equivalent constant (more than the largest is cut off below)
    best, _ = _least(missed, coarse[:, None])
    around = torch.arange(-finer, finer + 1, **like) * FINE  # mutate: equivalent constant, operator (the best lies within half a step)
    return _least(missed, (best + around[:, None]).clamp(0, MOST))


def _least(missed: Callable[[Tensor], Tensor], weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weight with the least value in every row, of `(tried, rows)` or `(tried, 1)`, and the value; the first of equals."""
    best, least = weights[0], missed(weights[0])  # mutate: equivalent constant (the finer search comes back to it)
    for weight in weights[1:]:  # mutate: equivalent constant (likewise)
        value = missed(weight)
        better = value < least
        best, least = torch.where(better, weight, best), torch.where(better, value, least)
    return best, least


def _difference(after: Tensor, before: Tensor) -> Tensor:
    """What training has changed; nothing where both rule a class out."""
    return (after - before).nan_to_num(0.0, 0.0, 0.0)
