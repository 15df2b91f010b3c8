"""Metrics from logits and labels, accumulated in float64. All take whole splits, on any device, and return plain numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .ranking import areas, auc
from .rates import rates
from .reliability import adaptive_calibration_error, calibration_error, classwise_calibration_error
from .risk import risk_coverage


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, top-5 accuracy (more than ten classes), nll (nats), ece, Brier score, AURC, E-AURC (times 1000), macro F1, balanced
    accuracy, sensitivity, specificity, AUC (NaN where only one class occurs), and calibration error of equal counts and class by class.

    Args:
        logits: `(examples, classes)`.
        labels: class indices, `(examples,)`; every example has one.
    """
    logits, labels = logits.double(), labels.long()
    guess = logits.argmax(1)
    values = {"accuracy": (guess == labels).double().mean().item()}
    if logits.shape[1] > 10:
        values["top5"] = top_k_accuracy(logits, labels, 5)
    values["nll"] = F.cross_entropy(logits, labels).item()
    values["ece"] = calibration_error(logits, labels)
    values["brier"] = brier(logits, labels)
    values |= risk_coverage(logits.softmax(1).amax(1), guess == labels)
    values["macro_f1"] = macro_f1(guess, labels, logits.shape[1])
    values |= rates(confusion(guess, labels, logits.shape[1]))
    values["auc"] = auc(logits, labels)
    values["adaptive_ece"] = adaptive_calibration_error(logits, labels)
    values["classwise_ece"] = classwise_calibration_error(logits, labels)
    return values


def multilabel_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean average precision, micro and macro F1 at probability one half, nll (nats, mean over examples and labels), mean AUC.

    Args:
        logits: `(examples, labels)`.
        labels: 0 or 1, of the same shape.
    """
    logits, truth = logits.double(), labels.double()
    guess = logits > 0
    hit = truth > 0.5
    true_positive = (guess & hit).sum(0).double()
    doubled = (guess.sum(0) + hit.sum(0)).double()
    return {
        "map": mean_average_precision(logits, hit),
        "micro_f1": _ratio(2 * true_positive.sum(), doubled.sum()).item(),
        "macro_f1": _ratio(2 * true_positive, doubled).mean().item(),
        "nll": F.binary_cross_entropy_with_logits(logits, truth).item(),
        "auc": areas(logits, hit).nanmean().item(),
    }


def regression_metrics(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """Root mean square error, mean absolute error and R squared, each the mean over the targets, in the targets' units.

    Args:
        predictions: `(examples, targets)`.
        targets: of the same shape.
    """
    predictions, targets = predictions.double(), targets.double()
    error = predictions - targets
    residual = error.square().sum(0)
    spread = (targets - targets.mean(0)).square().sum(0)
    # A constant target has nothing to explain: 1 where it is met exactly, else 0.
    constant = (residual == 0).double()
    r2 = torch.where(spread > 0, 1 - residual / torch.where(spread > 0, spread, 1.0), constant)
    return {
        "rmse": error.square().mean(0).sqrt().mean().item(),
        "mae": error.abs().mean().item(),
        "r2": r2.mean().item(),
    }


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Share of examples whose label is among the `k` largest logits."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(1).double().mean().item()


def brier(logits: Tensor, labels: Tensor) -> float:
    """Mean squared distance of the predicted distribution from the one-hot label, summed over classes; between 0 and 2."""
    probabilities = logits.double().softmax(1)
    at_label = probabilities.gather(1, labels[:, None])[:, 0]
    return (probabilities.square().sum(1) - 2 * at_label + 1).mean().item()


def confusion(guess: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts, `(classes, classes)`, int64: row is the label, column the prediction."""
    cells = labels.long() * classes + guess.long()
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def macro_f1(guess: Tensor, labels: Tensor, classes: int) -> float:
    """Mean F1 over the classes that occur among the labels or the predictions."""
    table = confusion(guess, labels, classes).double()
    doubled = table.sum(0) + table.sum(1)
    present = doubled > 0
    return _ratio(2 * table.diagonal(), doubled)[present].mean().item()


def mean_average_precision(scores: Tensor, hit: Tensor) -> float:
    """Mean over the labels that occur of the area under the precision-recall steps; tied scores count as one step.

    Args:
        scores: any ordering by confidence, `(examples, labels)`.
        hit: which labels apply, bool, of the same shape.
    """
    order = scores.argsort(dim=0, descending=True, stable=True)
    ordered, hits = scores.gather(0, order), hit.gather(0, order)
    rank = torch.arange(1, len(scores) + 1, dtype=torch.float64, device=scores.device)[:, None]
    precision = hits.double().cumsum(0) / rank
    last = torch.ones_like(hits)
    last[:-1] = ordered[:-1] != ordered[1:]
    # The end of each run of ties: the smallest following position that is the last of its run.
    position = torch.arange(len(scores), device=scores.device)[:, None].expand_as(last)
    end = torch.where(last, position, len(scores)).flip(0).cummin(0).values.flip(0)
    positives = hits.sum(0)
    average = (precision.gather(0, end) * hits).sum(0) / positives.clamp(min=1)
    present = positives > 0
    return average[present].mean().item() if present.any() else float("nan")


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The ratio, 0 where the denominator is 0."""
    return torch.where(denominator > 0, numerator / torch.where(denominator > 0, denominator, 1.0), 0.0)
