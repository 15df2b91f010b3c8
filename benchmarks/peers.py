"""What Limbeck's losses on answers are measured beside where torchdistill has none: the formulas in plain torch.

Each has the structure in which the authors or the public collections compute it (what they hold in memory, where they loop), written anew
from the formulas. They take student, teacher and labels as Limbeck's losses do, and return the mean over the batch unless they say so.
Losses on inner layers, on relations, on exits and on texts have theirs in the files beside this one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.types import Signals


def cross_entropy(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Torch's own, which gives every example its value as ours does; the mean is another operation, for both."""
    return F.cross_entropy(student.logits, labels, reduction="none").mean()


def soft_cross_entropy(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """At temperature 4."""
    return 16 * -(F.softmax(teacher.logits / 4, 1) * F.log_softmax(student.logits / 4, 1)).sum(1).mean()


def dkd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The label taken out by masks and by a large negative number."""
    s, t = student.logits, teacher.logits
    hit = torch.zeros_like(s).scatter_(1, labels.unsqueeze(1), 1).bool()
    rest = torch.ones_like(s).scatter_(1, labels.unsqueeze(1), 0).bool()

    def pair(probabilities: Tensor) -> Tensor:
        return torch.cat([(probabilities * hit).sum(1, keepdim=True), (probabilities * rest).sum(1, keepdim=True)], 1)

    p_s, p_t = pair(F.softmax(s / 4, 1)), pair(F.softmax(t / 4, 1))
    target = F.kl_div(p_s.log(), p_t, reduction="sum") * 16 / len(labels)
    others = F.kl_div(F.log_softmax(s / 4 - 1000 * hit, 1), F.softmax(t / 4 - 1000 * hit, 1), reduction="sum") * 16 / len(labels)
    return target + 8 * others


def nkd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The other classes picked out by a boolean mask."""
    s, t = student.logits, teacher.logits
    batch, classes = s.shape
    label = labels.view(-1, 1)
    target = -(F.softmax(t, 1).gather(1, label).detach() * F.log_softmax(s, 1).gather(1, label)).mean()
    mask = torch.ones_like(s).scatter_(1, label, 0).bool()
    s, t = s[mask].reshape(batch, classes - 1), t[mask].reshape(batch, classes - 1)
    return target + 1.5 * -(F.softmax(t, 1) * F.log_softmax(s, 1)).sum(1).mean()


def wsld(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Temperature 4."""
    s, t = student.logits, teacher.logits
    soft = -(F.softmax(t / 4, 1) * F.log_softmax(s / 4, 1)).sum(1)
    ours, theirs = F.cross_entropy(s.detach(), labels, reduction="none"), F.cross_entropy(t.detach(), labels, reduction="none")
    return 16 * (soft * (1 - torch.exp(-ours / (theirs + 1e-7)))).mean()


def ttm(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Powers of probabilities, gamma 0.1."""
    powers = torch.pow(F.softmax(teacher.logits, 1), 0.1)
    return F.kl_div(F.log_softmax(student.logits, 1), powers / powers.sum(1, keepdim=True), reduction="none").sum(1).mean()


def wttm(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The same, each example weighted."""
    powers = torch.pow(F.softmax(teacher.logits, 1), 0.1)
    mass = powers.sum(1, keepdim=True)
    return (mass.squeeze(1) * F.kl_div(F.log_softmax(student.logits, 1), powers / mass, reduction="none").sum(1)).mean()


def bdkd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Two divergences and two entropies."""
    s, t = student.logits / 4, teacher.logits / 4
    log_s, log_t, p_s, p_t = F.log_softmax(s, 1), F.log_softmax(t, 1), F.softmax(s, 1), F.softmax(t, 1)
    forward = F.kl_div(log_s, p_t, reduction="none").sum(1)
    reverse = F.kl_div(log_t, p_s, reduction="none").sum(1)
    confident = -(p_s * log_s).sum(1) < -(p_t * log_t).sum(1)
    return 16 * torch.where(confident, 2 * forward + reverse, forward + 2 * reverse).mean()


def ctkd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """A learned temperature; the reversal of its gradient costs nothing."""
    temperature = 1 + 20 * torch.sigmoid(loss.theta)
    log_s, p_t = F.log_softmax(student.logits / temperature, 1), F.softmax(teacher.logits / temperature, 1)
    return (F.kl_div(log_s, p_t, reduction="sum") / len(log_s) * temperature**2).sum()


def masked_bce(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Torch's own with a mask of the labels that are known."""
    known = ~labels.isnan()
    return (F.binary_cross_entropy_with_logits(student.logits, labels.nan_to_num(0), reduction="none") * known).mean()


def mlkd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Instance, batch and class level at five temperatures."""
    total = student.logits.new_zeros(())
    for temperature in (4.0, 3.0, 5.0, 2.0, 6.0):
        s, t = student.logits / temperature, teacher.logits / temperature
        total = total + temperature**2 * F.kl_div(F.log_softmax(s, 1), F.softmax(t, 1), reduction="none").sum(1).mean()
        s, t = F.softmax(s, 1), F.softmax(t, 1)
        batch, classes = s.shape
        total = total + ((torch.mm(s, s.t()) - torch.mm(t, t.t())) ** 2).sum() / batch
        total = total + ((torch.mm(s.t(), s) - torch.mm(t.t(), t)) ** 2).sum() / classes
    return total


def sinkd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """All pairs of predictions, then twenty alternate normalisations."""
    p_s, p_t = F.softmax(student.logits / 2, 1), F.softmax(teacher.logits / 2, 1)
    cost = torch.cdist(p_s, p_t, p=1)
    plan = torch.exp(-cost / 0.1)
    for _ in range(20):
        plan = plan / plan.sum(1, keepdim=True)
        plan = plan / plan.sum(0, keepdim=True)
    return (plan * cost).sum() / len(p_s)


def tf_kd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """A virtual teacher filled row by row."""
    classes = student.logits.shape[1]
    virtual = torch.full_like(student.logits, 0.01 / (classes - 1))
    for i in range(len(labels)):
        virtual[i, labels[i]] = 0.99
    return F.kl_div(F.log_softmax(student.logits / 20, 1), F.softmax(virtual.log() / 20, 1), reduction="batchmean")


def ps_kd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With a table of the same size; predictions are kept and mixed with the labels."""
    rows = student.extra["index"]
    hard = torch.zeros_like(student.logits).scatter_(1, labels.unsqueeze(1), 1)
    soft = 0.2 * hard + 0.8 * loss.past[rows]
    value = -(soft * F.log_softmax(student.logits, 1)).sum(1).mean()
    loss.past[rows] = F.softmax(student.logits.detach(), 1)
    return value


def uskd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same weak classifier; the other classes picked out by a boolean mask."""
    logits, label = student.logits, labels.view(-1, 1)
    weak = loss.weak(student.feature)
    batch, classes = logits.shape
    log_s, s = F.log_softmax(logits, 1), F.softmax(logits, 1)
    own = s.gather(1, label)
    of_label = -((own**2 + 1 - (own**2).mean()).detach() * log_s.gather(1, label)).mean()
    smooth = torch.full_like(logits, 0.1 / classes).scatter_add_(1, label, torch.full_like(own, 0.9))
    of_weak = -(smooth * F.log_softmax(weak, 1)).sum(1).mean()
    w = F.softmax(weak, 1).detach()
    rank = (w / (1 - w.gather(1, label) + 1e-6) + (s / (1 - own + 1e-6)).detach()).argsort(1, descending=True)
    zipf = torch.zeros_like(s).scatter_(1, rank, (1 / torch.arange(1.0, classes + 1)).repeat(batch, 1))
    mask = torch.ones_like(logits).scatter_(1, label, 0).bool()
    zipf, rest = zipf[mask].reshape(batch, classes - 1), logits[mask].reshape(batch, classes - 1)
    others = -(zipf / zipf.sum(1, keepdim=True) * F.log_softmax(rest, 1)).sum(1).mean()
    return of_label + 0.1 * others + 0.005 * of_weak


def bernoulli_kd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Two probabilities a label, stacked."""
    log_s = torch.stack([F.logsigmoid(student.logits), F.logsigmoid(-student.logits)])
    p_t = torch.stack([teacher.logits.sigmoid(), (-teacher.logits).sigmoid()])
    return F.kl_div(log_s, p_t, reduction="sum") / student.logits.numel()


def ranking_kd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """A softmax over what is left, place by place, of the classes in the teacher's order."""
    ranked = student.logits.gather(1, teacher.logits.argsort(1, descending=True))
    return torch.stack([torch.logsumexp(ranked[:, place:], 1) - ranked[:, place] for place in range(10)]).sum(0).mean()


def regression_kd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Bounded by the teacher's error, with a mask of the labels that are known."""
    known = ~labels.isnan()
    labels = labels.nan_to_num(0)
    ours, theirs = (((x.logits - labels) ** 2 * known).sum(1) for x in (student, teacher))
    return (ours * (ours > theirs)).mean()


def wa_kd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """At temperature 2; the old classes are the first."""
    old = teacher.logits.shape[1]
    return -(F.softmax(teacher.logits / 2, 1) * F.log_softmax(student.logits[:, :old] / 2, 1)).sum(1).mean()
