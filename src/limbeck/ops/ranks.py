"""How wrong a prediction is, means over those that are least wrong, pairs of answers in the right order, and whole orders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def wrongness(scores: Tensor, probabilities: Tensor, targets: Tensor) -> Tensor:
    """Rank of the right answer, and in the same rank its lack of probability.

    Args:
        scores: what the answers are ranked by, `(rows, answers)`; of equal ones the first is ranked higher.
        probabilities: of the same answers; that of an answer of rank 0 is above 0.
        targets: the right answers, `(rows,)`.

    Returns:
        `(rows,)`: below 1 where the right answer has the highest score, else at least 1.
    """
    targets = targets.unsqueeze(1)
    own = scores.gather(1, targets)
    earlier = torch.arange(scores.shape[1], device=scores.device) < targets
    ranks = ((scores > own) | ((scores == own) & earlier)).sum(1)
    return ranks + 1 - probabilities.gather(1, targets).squeeze(1)


def least_wrong_mean(values: Tensor, errors: Tensor, *, share: float) -> Tensor:
    """Mean of the values whose error is below 1, and of a share of the others, rounded down, that have the least error.

    Args:
        values: `(rows,)`.
        errors: `(rows,)`, as `wrongness` gives them.
        share: between 0 and 1.

    Returns:
        A scalar; 0 where nothing counts.
    """
    wrong = (errors >= 1).sum()
    exact = torch.float32 if wrong.device.type == "mps" else torch.float64  # mutate: equivalent choice (the tests run on the CPU)
    kept = len(errors) - wrong + (wrong.to(exact) * share).floor()
    counted = errors.argsort(stable=True).argsort() < kept  # mutate: equivalent constant (on the CPU every sort is stable)
    return (values * counted).sum() / counted.sum().clamp_min(1)


def preferred_pairs(worth: Tensor, *, least: float) -> Tensor:
    """Which answer of a pair is preferred to the other, `(..., answers)` to `(..., answers, answers)`, bool.

    Both are worth more than `least`, which is at least 0, and the first by more than `least` more than the second.
    """
    above = worth.unsqueeze(-1) > worth.unsqueeze(-2) + least
    return above & (worth > least).unsqueeze(-2)  # then the first is worth more than that too


def logistic_pairs(scores: Tensor) -> Tensor:
    r""":math:`-\log \sigma(s_i - s_j)` of all pairs, `(..., answers)` to `(..., answers, answers)`."""
    return F.softplus(scores.unsqueeze(-2) - scores.unsqueeze(-1))


def hinge_pairs(scores: Tensor, margin: Tensor | float) -> Tensor:
    """How much of `margin` the first of a pair lacks above the second, of all pairs, `(..., answers)` to `(..., answers, answers)`."""
    return (margin - (scores.unsqueeze(-1) - scores.unsqueeze(-2))).clamp_min(0)


def log_likelihood(scores: Tensor) -> Tensor:
    """Log-probability that answers are drawn in their order, each by the softmax of those that are left; `(..., answers)` to `(...)`."""
    return (scores - scores.flip(-1).logcumsumexp(-1).flip(-1)).sum(-1)


def first_hit(scores: Tensor, target: Tensor, *, before: int, after: int, top: int) -> Tensor:
    """1 / rank of the best answer near the right one, 0 where none of the first `top` is.

    Args:
        scores: of the positions of a sequence, `(..., positions)`.
        target: the right position, `(...)`.
        before: how far before the right position is near.
        after: how far behind it is near.
        top: how many of the answers with the highest scores count; all where there are fewer.

    Returns:
        `(...)`.
    """
    found = scores.topk(min(top, scores.shape[-1])).indices - target.unsqueeze(-1)
    hit = (found >= -before) & (found <= after)
    ranks = torch.arange(1, hit.shape[-1] + 1, device=scores.device)
    return (hit / ranks).amax(-1)
