"""Losses of language models from their formulas, step by step as libraries have them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.types import Signals


def akl(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Both directions and the sorted gaps, each from softmaxes of its own."""
    s, t = student.logits, teacher.logits
    p, q = F.softmax(t, 1), F.softmax(s, 1)
    ordered, index = p.sort(1, descending=True)
    gap = (ordered - q.gather(1, index)).abs().detach()
    tail = ordered.cumsum(1) > 0.5
    tail[:, 0] = False
    share = (gap * tail).sum(1) / gap.sum(1)
    forward = (p * (F.log_softmax(t, 1) - F.log_softmax(s, 1))).sum(1)
    reverse = (F.softmax(s, 1) * (F.log_softmax(s, 1) - F.log_softmax(t, 1))).sum(1)
    return ((1 - share) * forward + share * reverse).mean()


def topk_kd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The 64 likeliest classes and one more for all others, as a difference from 1."""
    log_p, index = F.log_softmax(teacher.logits, 1).topk(64)
    log_q = F.log_softmax(student.logits, 1).gather(1, index)
    left, ours = (torch.log1p(-x.exp().sum(1).clamp(1e-8, 1 - 1e-6)) for x in (log_p, log_q))
    return ((log_p.exp() * (log_p - log_q)).sum(1) + left.exp() * (left - ours)).mean()


def margin_mse(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The right class and the others picked out by a boolean mask."""
    others = ~F.one_hot(labels, student.logits.shape[1]).bool()
    ours, theirs = (x.gather(1, labels.view(-1, 1)) - x[others].view(len(x), -1) for x in (student.logits, teacher.logits))
    return F.mse_loss(ours, theirs)


def mft(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Both corrections of all examples, of which one is chosen."""
    p, label = F.softmax(teacher.logits, 1), labels.view(-1, 1)
    best, own = p.max(1, keepdim=True).values, p.gather(1, label)
    wrong, right = (best - own + 0.2) / (1 + best - own + 1e-7), ((own + 0.2).clamp_max(1) - own) / (1 - own + 1e-7)
    mixed = [(p * (1 - m)).scatter_add(1, label, m) for m in (wrong, right)]
    target = torch.where(p.argmax(1, keepdim=True) != label, *mixed)
    return F.kl_div(F.log_softmax(student.logits, 1), target, reduction="batchmean")
