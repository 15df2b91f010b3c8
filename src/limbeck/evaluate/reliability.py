"""Whether a classifier is as often right as it says: reliability diagram and expected calibration errors.

References: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599, section 2; bins of equal count: Nguyen and
O'Connor, "Posterior calibration and exploratory analysis for natural language processing models", EMNLP 2015, arXiv:1508.05154; class by
class: Kull et al., "Beyond temperature scaling", NeurIPS 2019, arXiv:1910.12656, equation 3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BINS = 15
"""Number of bins of equal width, as in the reference."""


def _answers(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """How sure the model is of its answer, and whether that is right."""
    confidence, guess = logits.double().softmax(1).max(1)
    return confidence, guess == labels


def _binned(confidence: Tensor, right: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Edges, and per bin the sum of confidences, the number of right answers and the count."""
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)
    which = torch.bucketize(confidence, edges[1:-1])  # bins are open below and closed above, so 1.0 is in the last
    zeros = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    sure, rights = (zeros.index_add(0, which, values.double()) for values in (confidence, right))
    return edges, sure, rights, torch.bincount(which, minlength=bins)


def reliability(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> dict[str, list[Any]]:
    """The reliability diagram: `edges` (bins + 1), and per bin mean `confidence`, `accuracy` (None where empty) and `count`.

    Args:
        logits: `(examples, classes)`.
        labels: class indices, `(examples,)`.
        bins: number of bins of equal width over [0, 1].
    """
    return reliability_of(*_answers(logits, labels), bins=bins)


def reliability_of(confidence: Tensor, right: Tensor, *, bins: int = BINS) -> dict[str, list[Any]]:
    """The same of answers, `(answers,)`: how sure the model is of each, from 0 to 1, and whether it is right."""
    edges, confidence, right, count = _binned(confidence, right, bins)

    def means(sums: Tensor) -> list[float | None]:
        return [s / c if c else None for s, c in zip(sums.tolist(), count.tolist(), strict=True)]

    return {"edges": edges.tolist(), "confidence": means(confidence), "accuracy": means(right), "count": count.tolist()}


def calibration_error(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Expected calibration error: mean over examples of the gap between confidence and accuracy of their bin."""
    return calibration_error_of(*_answers(logits, labels), bins=bins)


def calibration_error_of(confidence: Tensor, right: Tensor, *, bins: int = BINS) -> float:
    """The same of answers, `(answers,)`: how sure the model is of each, from 0 to 1, and whether it is right."""
    _, confidence, right, count = _binned(confidence, right, bins)
    return ((confidence - right).abs().sum() / count.sum().clamp(min=1)).item()


def adaptive_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal count instead of equal width: where few answers are unsure, none hides in a wide bin.

    The first bins have one answer more where the examples do not divide by the bins.

    Args:
        logits: `(examples, classes)`.
        labels: class indices, `(examples,)`.
        bins: number of bins.
    """
    confidence, right = _answers(logits, labels)
    order = confidence.argsort(stable=True)
    gap = (confidence - right.double())[order]
    return sum(part.sum().abs().item() for part in gap.tensor_split(bins)) / max(len(gap), 1)


def classwise_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Mean over all classes of the calibration error of "it is this class", with the probability of that class as confidence.

    Args:
        logits: `(examples, classes)`.
        labels: class indices, `(examples,)`.
        bins: number of bins of equal width over [0, 1].
    """
    probabilities = logits.double().softmax(1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=logits.device)
    own = torch.bucketize(probabilities, edges[1:-1]) + bins * torch.arange(logits.shape[1], device=logits.device)
    gap = probabilities.scatter_add(1, labels[:, None], torch.full_like(probabilities[:, :1], -1.0))
    sums = torch.zeros(logits.shape[1] * bins, dtype=torch.float64, device=logits.device).index_add_(0, own.flatten(), gap.flatten())
    return (sums.abs().sum() / max(logits.shape[0], 1) / logits.shape[1]).item()
