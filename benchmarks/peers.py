"""What Limbeck's losses are measured beside where torchdistill has none: the formulas in plain torch.

Each has the structure in which the authors or the public collections compute it (what they hold in memory, where they loop), written anew
from the formulas. They take student, teacher and labels as Limbeck's losses do, and return the mean over the batch unless they say so.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.types import Signals

# logits


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


# features


def squared_error(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Torch's own, which torchdistill wraps."""
    return F.mse_loss(student.feature, teacher.feature)


def cosine(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Torch's own."""
    return 1 - F.cosine_similarity(student.feature, teacher.feature, dim=1).mean()


def nst(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Three matrices of channels by channels, made by broadcasting as in the collections."""
    total = torch.zeros(())
    for maps in zip(student.features.values(), teacher.features.values(), strict=True):
        s, t = (F.normalize(x.flatten(2), dim=2) for x in maps)

        def kernel(a: Tensor, b: Tensor) -> Tensor:
            return (a.unsqueeze(2) * b.unsqueeze(1)).sum(-1).pow(2)

        total = total + kernel(t, t).mean().detach() + kernel(s, s).mean() - 2 * kernel(s, t).mean()
    return total


def cat_kd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Full maps of all classes by a 1x1 convolution, then pooled to 2 x 2."""
    maps = []
    for signals in (student, teacher):
        assert signals.head is not None
        cams = F.conv2d(signals.feature, signals.head.weight[:, :, None, None])
        maps.append(F.normalize(F.adaptive_avg_pool2d(cams, 2).flatten(2), dim=2))
    return (maps[0] - maps[1]).square().sum((1, 2)).mean() / maps[0].shape[1]


def nd_loss(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """A loop over the examples, whose class means are given."""
    total = torch.zeros(())
    for s, t, label in zip(student.feature, teacher.feature, labels, strict=True):
        center = loss.means[label]
        length = torch.max(s.norm(p=2), t.norm(p=2))
        total = total + 1 - torch.dot(s, center / center.norm(p=2)) / length
    return total / len(labels)


def skt_cosine(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """A sum over positions and layers."""
    values = [
        (1 - F.cosine_similarity(s, t, dim=1)).sum() for s, t in zip(student.features.values(), teacher.features.values(), strict=True)
    ]
    return torch.stack(values).sum() / len(labels)


def skt_dense_fsp(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Every image by itself, as the authors train with one; normalised anew for every pair of layers."""
    total = torch.zeros(())
    ours, theirs = list(student.features.values()), list(teacher.features.values())
    smallest = ours[-1].shape[2]
    pooled = [[F.max_pool2d(x, x.shape[2] // smallest, ceil_mode=True) for x in maps] for maps in (ours, theirs)]
    for image in range(len(ours[0])):
        for i in range(len(ours)):
            for j in range(i + 1, len(ours)):
                grams = []
                for maps in pooled:
                    first, second = (F.instance_norm(maps[k][image : image + 1])[0].flatten(1) for k in (i, j))
                    grams.append(torch.mm(first, second.t()) / first.shape[1])
                total = total + F.mse_loss(*grams, reduction="sum")
    return total / len(ours[0])


def dct(maps: Tensor) -> Tensor:
    """Cosine transform of both directions by products with full matrices."""

    def basis(size: int) -> Tensor:
        rows = torch.cos(math.pi * (torch.arange(size)[None] + 0.5) * torch.arange(size)[:, None] / size) * math.sqrt(2 / size)
        rows[0] /= math.sqrt(2)
        return rows

    height, width = maps.shape[2:]
    return torch.einsum("uh,bchw,vw->bcuv", basis(height), maps, basis(width))


def frequency(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Both transformed, all but the mean compared."""
    ours, theirs = dct(student.feature), dct(teacher.feature)
    ours[:, :, 0, 0] = 0
    theirs[:, :, 0, 0] = 0
    return (ours - theirs).square().sum((1, 2, 3)).mean() / ours.shape[2:].numel()


def pad(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """As in torchdistill, with the same estimator of variances."""
    log_variance = loss.variance(student.feature[:, :, None, None]).flatten(1)
    return ((teacher.feature - student.feature) ** 2 / (1e-6 + torch.exp(log_variance)) + log_variance).mean()


def srd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same projector; fourth powers of differences."""
    ours, theirs = (
        F.batch_norm(loss.project(student.feature), None, None, training=True, eps=1e-4),
        F.batch_norm(teacher.feature, None, None, training=True, eps=1e-4),
    )
    return torch.log((ours - theirs).abs().pow(4.0).sum())
