"""Whether a classifier is as often right as it says: reliability diagram and expected calibration error.

Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599, section 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BINS = 15
"""Number of bins of equal width, as in the reference."""


def _binned(logits: Tensor, labels: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Edges, and per bin the sum of confidences, the number of right answers and the count."""
    confidence, guess = logits.double().softmax(1).max(1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=logits.device)
    which = torch.bucketize(confidence, edges[1:-1])  # bins are open below and closed above, so 1.0 is in the last
    zeros = torch.zeros(bins, dtype=torch.float64, device=logits.device)
    right = (guess == labels).double()
    return edges, zeros.index_add(0, which, confidence), zeros.index_add(0, which, right), torch.bincount(which, minlength=bins)


def reliability(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> dict[str, list[Any]]:
    """The reliability diagram: `edges` (bins + 1), and per bin mean `confidence`, `accuracy` (None where empty) and `count`.

    Args:
        logits: `(examples, classes)`.
        labels: class indices, `(examples,)`.
        bins: number of bins of equal width over [0, 1].
    """
    edges, confidence, right, count = _binned(logits, labels, bins)

    def means(sums: Tensor) -> list[float | None]:
        return [s / c if c else None for s, c in zip(sums.tolist(), count.tolist(), strict=True)]

    return {"edges": edges.tolist(), "confidence": means(confidence), "accuracy": means(right), "count": count.tolist()}


def calibration_error(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Expected calibration error: mean over examples of the gap between confidence and accuracy of their bin."""
    _, confidence, right, count = _binned(logits, labels, bins)
    return ((confidence - right).abs().sum() / count.sum().clamp(min=1)).item()
