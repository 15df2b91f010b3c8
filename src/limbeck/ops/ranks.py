"""How wrong a prediction is, and means over those that are least wrong."""

from __future__ import annotations

import torch
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
