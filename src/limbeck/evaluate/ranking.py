r"""Whether examples of a class are ranked above the others: the area under the curve of the receiver operating characteristic.

It is the share of the pairs of an example of the class and one that is none in which the first has the higher score, pairs of equal
scores counting one half:

.. math:: AUC = \frac{\sum_{i \in P} r_i - \tfrac{1}{2} |P| (|P| + 1)}{|P| \, |N|}

with :math:`r_i` the rank of an example by its score among all, equal scores sharing their mean rank. Of two classes it is that of the
second one; of more the mean over the classes that occur of each against all others (one-vs-rest).

Reference: Hanley and McNeil, "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve", Radiology 1982.
"""

from __future__ import annotations

import torch
from torch import Tensor

AT_ONCE = 2**24
"""Scores that are sorted together, so that many classes take no more memory than few."""


def ranks(scores: Tensor) -> Tensor:
    """Rank of every score in its column from 1, equal ones share their mean rank; `(examples, columns)`, float64."""
    ordered, order = scores.sort(dim=0)
    count = len(scores)
    place = torch.arange(count, device=scores.device)[:, None].expand_as(order)
    begins, ends = torch.ones_like(order, dtype=torch.bool), torch.ones_like(order, dtype=torch.bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    ends[:-1] = begins[1:]
    first = torch.where(begins, place, 0).cummax(0).values
    last = torch.where(ends, place, count).flip(0).cummin(0).values.flip(0)
    return torch.empty(scores.shape, dtype=torch.float64, device=scores.device).scatter_(0, order, (first + last).double() / 2 + 1)


def areas(scores: Tensor, hit: Tensor) -> Tensor:
    """Area under the curve of every column, `(columns,)` in float64; NaN where all or none of its examples are hits.

    Args:
        scores: `(examples, columns)`, any increasing scale.
        hit: which examples belong to the column, bool, of the same shape.
    """
    width = max(1, AT_ONCE // max(len(scores), 1))
    parts = [_areas(*pair) for pair in zip(scores.split(width, 1), hit.split(width, 1), strict=True)]
    return torch.cat(parts)


def _areas(scores: Tensor, hit: Tensor) -> Tensor:
    positives = hit.sum(0).double()
    negatives = len(hit) - positives
    return ((ranks(scores) * hit).sum(0) - positives * (positives + 1) / 2) / (positives * negatives)


def auc(logits: Tensor, labels: Tensor) -> float:
    """Area under the curve of a classifier, ranked by probability; NaN where only one class occurs.

    Args:
        logits: `(examples, classes)`.
        labels: class indices, `(examples,)`.
    """
    probabilities = logits.double().softmax(1)
    if logits.shape[1] == 2:
        # The difference ranks as the probability does, and does not become 1 where the model is very sure.
        return areas((logits[:, 1:] - logits[:, :1]).double(), labels[:, None] == 1).item()
    classes = torch.arange(logits.shape[1], device=labels.device)
    return areas(probabilities, labels[:, None] == classes).nanmean().item()
