"""Peers of losses on logits that weigh or deceive, and of exits of a model, written anew from their formulas in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.types import Signals


def focal(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The probability of the label from its cross-entropy; gamma of 2."""
    value = F.cross_entropy(student.logits, labels, reduction="none")
    return ((1 - torch.exp(-value)) ** 2 * value).mean()


def knowledge_concentration(loss: Any, student: Signals, teacher: Signals, labels: Any) -> Callable[[], Tensor]:
    """With a running mean of its own, whose weight is another after every call."""
    running: list[Tensor] = []

    def value() -> Tensor:
        gap = F.kl_div(F.log_softmax(student.logits / 2, 1), F.softmax(teacher.logits / 2, 1), reduction="batchmean")
        weight = 1 - torch.exp(-running[-1] / 0.1) if running else 1.0
        now = gap.detach()
        running[:] = [0.95 * running[-1] + 0.05 * now if running else now]
        return weight * 4 * gap

    return value


def meal_v2(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The same critic, which sees student and teacher one after the other."""
    soft = -(F.softmax(teacher.logits, 1) * F.log_softmax(student.logits, 1)).sum(1).mean()
    sides = [(loss.critic(x), i) for i, x in enumerate((student.logits, teacher.logits))]
    truth = [F.one_hot(torch.full((len(said),), i), 2).float() for said, i in sides]
    return soft + sum(F.binary_cross_entropy_with_logits(said, wanted) for (said, _), wanted in zip(sides, truth, strict=True)) / 2


def soft_gap(ours: Tensor, theirs: Tensor) -> Tensor:
    """At temperature 3."""
    return 9 * F.kl_div(F.log_softmax(ours / 3, 1), F.softmax(theirs / 3, 1), reduction="batchmean")


def self_exits(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The same exits, one term after the other."""
    *layers, deepest = student.features.values()
    total, end = F.cross_entropy(student.logits, labels), deepest.mean((2, 3)).detach()
    for branch, layer in zip(loss.exits, layers, strict=True):
        vector, answer = branch(layer)
        total = total + 0.7 * F.cross_entropy(answer, labels) + 0.3 * soft_gap(answer, student.logits.detach())
        total = total + 0.03 * ((vector - end) ** 2).sum(1).mean()
    return total


def lsskd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The same exits on all four views, one term after the other."""
    shown = [student, *student.views]
    joint = torch.cat([4 * labels + turn for turn in range(4)])
    answers = [
        branch(torch.cat([view.features[name] for view in shown])) for branch, name in zip(loss.exits, student.features, strict=True)
    ]
    vector, logits = (x.detach() for x in answers[-1])
    total = torch.stack([F.cross_entropy(answer, joint) for _, answer in answers]).sum()
    for own, answer in answers[:-1]:
        total = total + soft_gap(answer, logits) + 0.03 * ((own - vector) ** 2).sum(1).mean()
    return total


def attention_kd(student: Signals, teacher: Signals, labels: Any) -> Tensor:
    """Layer by layer, averaged; masked scores, which are large and negative, count as 0."""
    pairs = zip(student.features.values(), teacher.features.values(), strict=True)
    values: list[Tensor] = []
    for pair in pairs:
        ours, theirs = (torch.where(x <= -100, torch.zeros_like(x), x) for x in pair)
        values.append(F.mse_loss(ours, theirs))
    return torch.stack(values).mean()
