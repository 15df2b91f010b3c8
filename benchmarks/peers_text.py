"""Peers of losses on the tokens of texts, and of further losses on logits, written anew from their formulas in plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.types import Signals

HEADS = 12


def attention_relation(student: Signals, teacher: Signals, labels: Any) -> Tensor:
    """Layer by layer: heads side by side, scores, and the divergence of their softmaxes."""
    total = torch.zeros(())
    for ours, theirs in zip(student.features.values(), teacher.features.values(), strict=True):
        scores = []
        for x in (ours, theirs):
            heads = x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)
            scores.append(heads @ heads.transpose(2, 3) / math.sqrt(heads.shape[3]))
        gap = F.kl_div(F.log_softmax(scores[0], 3), F.softmax(scores[1], 3), reduction="none").sum(3)
        total = total + gap.mean()
    return total


def hidden_states(student: Signals, teacher: Signals, labels: Any) -> Tensor:
    """Layer by layer."""
    pairs = zip(student.features.values(), teacher.features.values(), strict=True)
    return torch.stack([F.mse_loss(ours, theirs) for ours, theirs in pairs]).sum()


def mix_distribution(loss: Any, student: Signals, teacher: Signals, labels: Any) -> Callable[[], Tensor]:
    """The same layers; partners and shares of torch's own draws."""

    def embed(x: Tensor) -> Tensor:
        return F.normalize(loss.outer(F.relu(loss.inner(x.transpose(1, 2))).mean(1)), dim=1)

    def value() -> Tensor:
        feature = student.feature.flatten(2)
        mean, deviation = feature.mean(2, keepdim=True), (feature.var(2, unbiased=False, keepdim=True) + 1e-6).sqrt()
        partner, share = torch.randperm(len(feature)), torch.rand(len(feature), 1, 1)
        new_mean = share * mean + (1 - share) * mean[partner]
        new_deviation = share * deviation + (1 - share) * deviation[partner]
        mixed = new_deviation * (feature - mean) / deviation + new_mean
        return F.cross_entropy(embed(feature) @ embed(mixed).T / 0.1, torch.arange(len(feature)))

    return value


def panda(student: Signals, teacher: Signals, labels: Any) -> Tensor:
    """Of each example by itself."""
    return F.mse_loss(student.logits, teacher.logits, reduction="none").mean(1).mean()


def skd_map(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The teacher's ten first answers beside the label, then the divergence at a temperature of 2."""
    hit = teacher.logits.topk(10).indices == labels.unsqueeze(1)
    weight = (hit / torch.arange(1, 11)).sum(1).mean()
    return weight * 4 * F.kl_div(F.log_softmax(student.logits / 2, 1), F.softmax(teacher.logits / 2, 1), reduction="batchmean")


def swing(student: Signals, teacher: Signals, labels: Any) -> Tensor:
    """Both logits over a temperature of each token's own."""
    own = 1 + student.extra["private"].unsqueeze(1)
    return F.kl_div(F.log_softmax(student.logits / own, 1), F.softmax(teacher.logits / own, 1), reduction="batchmean")


def meal_v2_alternating(loss: Any, student: Signals, teacher: Signals, labels: Any) -> Callable[[], Tensor]:
    """The same critic, in turn frozen and shown what the student cannot change."""
    turn = [0]

    def value() -> Tensor:
        learns = turn[0] % 2 == 1
        turn[0] += 1
        loss.critic.requires_grad_(learns)
        ours = student.logits.detach() if learns else student.logits
        said = torch.cat([loss.critic(ours), loss.critic(teacher.logits)])
        truth = F.one_hot(torch.arange(2).repeat_interleave(len(ours)), 2).float()
        wrong = F.binary_cross_entropy_with_logits(said, truth)
        loss.critic.requires_grad_(True)
        if learns:
            return wrong
        soft = -(F.softmax(teacher.logits, 1) * F.log_softmax(student.logits, 1)).sum(1).mean()
        return soft - wrong

    return value
