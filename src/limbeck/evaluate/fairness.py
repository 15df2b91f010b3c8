r"""How unequally a classifier treats groups of examples.

The accuracy gap is the largest difference of accuracy between two groups. The equalised-odds gap is the largest difference, between two
groups and over all pairs of a true class y and an answer c, of :math:`P(\hat y = c \mid y, group)`; 0 means that all members of a
class are treated alike. For two classes it is the larger of the gaps of the true and of the false positive rate.

Reference: Hardt et al., "Equality of Opportunity in Supervised Learning", NeurIPS 2016, arXiv:1610.02413.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeMismatch


def group_accuracy(guess: Tensor, labels: Tensor, groups: Tensor) -> dict[int, float]:
    """Accuracy of every group by its number; classes and groups `(examples,)`, integers."""
    _same(guess, labels, groups)
    right = (guess == labels).double()
    return {int(group): right[groups == group].mean().item() for group in groups.unique()}


def accuracy_gap(guess: Tensor, labels: Tensor, groups: Tensor) -> float:
    """Largest difference of accuracy between two groups, from 0 to 1."""
    found = group_accuracy(guess, labels, groups).values()
    return max(found) - min(found) if found else 0.0


def equalised_odds_gap(guess: Tensor, labels: Tensor, groups: Tensor) -> float:
    """Largest difference between two groups in how often one class is answered where another (or the same) is true.

    A class that some group has no example of says nothing of that group.
    """
    _same(guess, labels, groups)
    largest = 0.0
    for true in labels.unique():
        for answer in guess.unique():
            own = [(groups == group) & (labels == true) for group in groups.unique()]
            rates = [(guess[members] == answer).double().mean().item() for members in own if members.any()]
            largest = max(largest, max(rates) - min(rates))
    return largest


def parity_gap(guess: Tensor, groups: Tensor) -> float:
    """Largest difference between two groups in how often one class is answered (demographic parity), from 0 to 1."""
    _same(guess, groups)
    rates = torch.stack([torch.stack([(guess[groups == group] == c).double().mean() for c in guess.unique()]) for group in groups.unique()])
    return (rates.amax(0) - rates.amin(0)).max().item()


def _same(*columns: Tensor) -> None:
    if len({tuple(column.shape) for column in columns}) != 1 or columns[0].ndim != 1:
        shapes = ", ".join(str(tuple(column.shape)) for column in columns)
        raise ShapeMismatch(f"answers, labels and groups need one value an example each, found {shapes}.")


def group_report(guess: Tensor, labels: Tensor, groups: Tensor) -> dict[str, float]:
    """`accuracy_gap`, `equalised_odds_gap`, and the accuracy of the worst group, `worst_accuracy`."""
    accuracies = group_accuracy(guess, labels, groups)
    return {
        "accuracy_gap": accuracy_gap(guess, labels, groups),
        "equalised_odds_gap": equalised_odds_gap(guess, labels, groups),
        "worst_accuracy": min(accuracies.values(), default=float(torch.nan)),
    }
