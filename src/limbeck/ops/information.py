"""Lower bounds on the mutual information of two variables, from a critic's scores of all their pairs in a batch.

Row i of the scores belongs to one value of the variable that is conditioned on, column j to one of the other; the diagonal holds the pairs
that occur together. A baseline is the logarithm of what the exponential of a row's scores is compared with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def infonce(scores: Tensor) -> Tensor:
    """InfoNCE, at most the logarithm of the batch; `(batch, batch)` to a scalar."""
    return (scores.diagonal() - scores.logsumexp(1)).mean() + math.log(len(scores))


def tuba(scores: Tensor, log_baseline: Tensor | float) -> Tensor:
    """The bound of Barber and Agakov without a normaliser, tight where it equals the baseline; with a constant of 1 that of NWJ.

    Args:
        scores: `(batch, batch)`, of at least two examples.
        log_baseline: `(batch,)`, or a number.
    """
    if isinstance(log_baseline, Tensor):
        log_baseline = log_baseline.unsqueeze(1)
    scores = scores - log_baseline
    return 1 + scores.diagonal().mean() - _log_mean_exp_of_others(scores).exp()


def interpolated(scores: Tensor, log_baseline: Tensor, log_others: Tensor, *, alpha: float) -> Tensor:
    """The bound whose baseline is a mixture of the learned one and that of the other scores of the row.

    Args:
        scores: `(batch, batch)`, of at least two examples.
        log_baseline: learned, `(batch,)`.
        log_others: log-mean of the other exponentials of the row, as `log_mean_exp_without` gives it.
        alpha: weight of the others: 1 is InfoNCE with a leave-one-out denominator, 0 the learned baseline alone.
    """
    batch = len(scores)
    weights = [math.log(x) if x > 0 else -math.inf for x in (alpha, 1 - alpha)]
    baseline = torch.logaddexp(log_others + weights[0], log_baseline.unsqueeze(1) + weights[1])
    marginal = _log_mean_exp_of_others(scores - baseline.diagonal().unsqueeze(1)).exp()
    joint = scores.diagonal().unsqueeze(1) - baseline  # mutate: equivalent unwrapped (only differences of one row cancel exactly)
    return 1 + (joint.sum() - joint.diagonal().sum()) / (batch * (batch - 1)) - marginal


def log_mean_exp_without(scores: Tensor) -> Tensor:
    """Log-mean of the exponentials of a row without one column, for each column; `(batch, batch)` to `(batch, batch)`.

    Exact also where that column is all that counts in the sum of the row.
    """
    largest = torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.argmax(1, keepdim=True), True)
    rest = scores.masked_fill(largest, -math.inf)
    total = scores.logsumexp(1, keepdim=True)
    # No other column is more than half of the sum, so that the difference does not cancel.
    without = torch.where(largest, rest.logsumexp(1, keepdim=True), total + torch.log1p(-(rest - total).exp()))
    return without - math.log(scores.shape[1] - 1)


def explicit_log_mean_exp_without(scores: Tensor) -> Tensor:
    """`log_mean_exp_without` in the arithmetic of the public code.

    There the logarithm of the sum and of what is left out are subtracted, which says nothing where they are equal: the difference then
    counts as 1.
    """
    highest = scores.amax(1, keepdim=True)
    gap = (scores - highest).logsumexp(1, keepdim=True) + (highest - scores)
    gap = gap.masked_fill(gap == 0, 1)
    return scores + gap + (-torch.expm1(-gap)).log() - math.log(scores.shape[1] - 1)


def _log_mean_exp_of_others(scores: Tensor) -> Tensor:
    """Over all entries but the diagonal."""
    batch = len(scores)
    own = scores.new_full((batch,), math.inf).diag()
    return (scores - own).flatten().logsumexp(0) - math.log(batch * (batch - 1))
