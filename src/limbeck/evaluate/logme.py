r"""LogME: how likely labels are, given features and all linear classifiers on them; the higher, the better the features transfer.

For one column y of the labels (of classes: 1 for its own, 0 for the others) and features F of n examples and d channels, the labels are
normal around :math:`F w` with precision :math:`\beta`, and w is normal around 0 with precision :math:`\alpha`. Both precisions are those
of the highest evidence, found by MacKay's fixed point:

.. math:: \frac{1}{n} \log p(y) = \frac{1}{n} \log \mathcal N\!\left(y;\, 0,\, \beta^{-1} I + \alpha^{-1} F F^T\right)

The score is its mean over the columns. Nothing is trained, and nothing is fitted to held-out examples.

Reference: You, Liu, Wang, Long, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021, arXiv:2102.11005,
section 4 and algorithm 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ShapeMismatch

STEPS = 100
"""Most steps of the fixed point; a dozen are usual."""
CLOSE = 1e-4
"""Relative change of the ratio of the precisions at which it is taken for found."""
TINY = 1e-10
"""Keeps the precisions finite where labels are explained without rest."""


def logme(features: Tensor, targets: Tensor) -> float:
    """The score.

    Args:
        features: `(examples, ...)`, flattened.
        targets: class indices, `(examples,)` of integers; or numbers, `(examples,)` or `(examples, targets)`.

    Raises:
        ShapeMismatch: where there are not as many features as targets, or fewer than two.
    """
    if len(features) != len(targets) or len(features) < 2:
        raise ShapeMismatch(f"LogME needs two or more examples with targets, found {len(features)} and {len(targets)}.")
    flat = features.flatten(1).double()
    columns = targets.double().reshape(len(targets), -1)
    if not targets.is_floating_point():
        columns = (targets[:, None] == targets.unique()[None]).double()
    left, singular, _ = torch.linalg.svd(flat, full_matrices=False)
    return sum(evidence(left, singular, column)[0] for column in columns.T) / columns.shape[1]


def evidence(left: Tensor, singular: Tensor, column: Tensor) -> tuple[float, float, float]:
    """Logarithm of the evidence for one column, an example, and the precisions of the weights and of the labels.

    Args:
        left: left singular vectors of the features, `(examples, rank)`.
        singular: their singular values, `(rank,)`.
        column: the labels, `(examples,)`.
    """
    count, squares = len(column), singular.square()
    along = (left.T @ column).square()
    across = max((column.square().sum() - along.sum()).item(), 0.0)  # what no linear map of the features reaches
    alpha = beta = 1.0
    for _ in range(STEPS):
        ratio = alpha / beta
        used = (squares / (squares + ratio)).sum().item()
        size = (squares * along / (squares + ratio).square()).sum().item()
        rest = (along * (ratio / (squares + ratio)).square()).sum().item() + across
        alpha, beta = used / (size + TINY), max(count - used, TINY) / (rest + TINY)
        if abs(alpha / beta - ratio) <= CLOSE * ratio:
            break
    # Of the covariance, whose eigenvalues are 1 / beta + s^2 / alpha along the features and 1 / beta across them.
    spread = torch.log1p(squares * (beta / alpha)).sum().item() - count * math.log(beta)
    fit = (along / (1 / beta + squares / alpha)).sum().item() + across * beta
    return -0.5 * (spread + fit + count * math.log(2 * math.pi)) / count, alpha, beta
