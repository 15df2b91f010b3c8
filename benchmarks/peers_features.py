"""The losses on inner layers in plain torch; see peers.py."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.types import Signals


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


def basis(size: int) -> Tensor:
    """Matrix of the orthonormal cosine transform."""
    rows = torch.cos(math.pi * (torch.arange(size)[None] + 0.5) * torch.arange(size)[:, None] / size) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


def dct(maps: Tensor) -> Tensor:
    """Cosine transform of both directions by products with full matrices."""
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


def factor_transfer(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same translator and paraphraser; both factors flattened and divided by their lengths."""
    with torch.no_grad():
        theirs = loss.paraphraser.encoder(teacher.feature).flatten(1)
    ours = loss.translator(student.feature).flatten(1)
    return F.l1_loss(ours / ours.norm(dim=1, keepdim=True), theirs / theirs.norm(dim=1, keepdim=True))


def ofa(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same exits; the label as a one-hot mask, the logarithm of an explicit softmax."""
    hit = F.one_hot(labels, student.logits.shape[1]).float()
    target = (F.softmax(teacher.logits, 1) + hit) ** 1.5 - hit
    answers = [branch(x) for branch, x in zip(loss.exits, student.features.values(), strict=True)]
    values = [-(target * torch.log(F.softmax(x, 1))).sum(1).mean() for x in [*answers, student.logits]]
    return torch.stack(values).sum()


def dho(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same second head."""
    second = loss.head(student.feature)
    return 4 * F.kl_div(F.log_softmax(second / 2, 1), F.softmax(teacher.logits / 2, 1), reduction="batchmean")


def haste(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The logarithm of an explicit softmax."""
    return -(F.softmax(teacher.feature, -1) * torch.log(F.softmax(student.feature, -1))).sum(-1).mean()


def dmae(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Directions of tokens."""
    return F.l1_loss(F.normalize(student.feature, dim=-1), F.normalize(teacher.feature, dim=-1))


def pkd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Channels first, standardised by mean and standard deviation."""

    def standardised(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows = x.permute(1, 0, 2, 3).reshape(channels, -1)
        rows = (rows - rows.mean(-1, keepdim=True)) / (rows.std(-1, keepdim=True) + 1e-6)
        return rows.reshape(channels, batch, height, width).permute(1, 0, 2, 3)

    return F.mse_loss(standardised(student.feature), standardised(teacher.feature)) / 2


def scalekd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same projectors; the mean removed by a cosine transform, a mask and the transform back."""
    t = teacher.feature

    def gap(x: Tensor, y: Tensor) -> Tensor:
        return (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum() / len(x)

    def details(x: Tensor) -> Tensor:
        kept = dct(x) * (torch.arange(x[0, 0].numel()) > 0).float().view(x.shape[2:])
        rows, columns = basis(x.shape[2]), basis(x.shape[3])
        return torch.einsum("uh,bcuv,vw->bchw", rows, kept, columns)

    whole, other = (project(student.feature).transpose(1, 2).reshape(t.shape) for project in (loss.whole, loss.details))
    return 0.08 * gap(whole, t) + 0.06 * gap(details(other), details(t))


def attention_guided(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same linear maps; the non-local module forms all pairs of positions."""
    s, t = student.feature.flatten(2), teacher.feature.flatten(2)
    attention = torch.stack([(s.abs().mean(dim) - t.abs().mean(dim)).norm(dim=1) for dim in (1, 2)]).sum(0)
    strength = s.detach().abs() + t.abs()
    over = F.softmax(strength.mean(1, keepdim=True) / 0.1, 2) * s.shape[2]
    along = F.softmax(strength.mean(2, keepdim=True) / 0.1, 1) * s.shape[1]
    guided = ((s - t).square() * over * along).sum((1, 2)).sqrt()

    def relations(module: Any, x: Tensor) -> Tensor:
        query, key, value = module.project(x.transpose(1, 2)).split(module.width, -1)
        return torch.bmm(torch.bmm(query, key.transpose(1, 2)) / x.shape[2], value)

    gap = (relations(loss.relations[0][0], s) - relations(loss.relations[0][1], t)).flatten(1).norm(dim=1)
    return (7e-5 * attention + 4e-3 * guided + 7e-5 * gap).mean()


def foreground(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Masks multiplied into both maps."""
    strength = teacher.feature.abs().mean(1, keepdim=True)
    mask = strength / strength.amax((2, 3), keepdim=True)
    values = []
    for m, weight in ((mask, 1.0), (1 - mask, 0.5)):
        gap = (student.feature * m.sqrt() - teacher.feature * m.sqrt()).square().sum((1, 2, 3))
        values.append(weight * (gap / m.sum((1, 2, 3)) / student.feature.shape[1]).mean())
    return values[0] + values[1]


def kdsvd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Full decompositions of every layer."""

    def first(x: Tensor) -> tuple[Tensor, Tensor]:
        _, values, right = torch.linalg.svd(x.flatten(2).transpose(1, 2), full_matrices=False)
        return values[:, :1], right[:, :1].transpose(1, 2)

    def relation(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-(a[:, :, None] - b[:, None]).square() / 8)

    ours, theirs = [], []
    for s, t in zip(student.features.values(), teacher.features.values(), strict=True):
        (_, own), (values, other) = first(s), first(t)
        weight = F.normalize(values, dim=1).unsqueeze(1)
        ours.append(own * torch.sign((own * other).sum(1, keepdim=True)) * weight)
        theirs.append(other * weight)
    gaps = [(relation(a, b) - relation(c, d)).square().sum() for a, b, c, d in zip(ours, ours[1:], theirs, theirs[1:], strict=False)]
    return torch.stack(gaps).sum() / len(labels)


def mgd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same convolutions; a mask drawn and compared."""
    batch, _, height, width = student.feature.shape
    mask = torch.where(torch.rand(batch, 1, height, width) > 1 - 0.65, 0, 1)
    return F.mse_loss(loss.generation(loss.align(student.feature) * mask), teacher.feature, reduction="sum") / batch


def vid(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same regressor."""
    variance = (torch.log(1 + torch.exp(loss.log_scale)) + 1e-5).view(1, -1, 1, 1)
    return (0.5 * ((loss.regressor(student.feature) - teacher.feature) ** 2 / variance + torch.log(variance))).mean()


def ofd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same connectors, the margins given."""
    total = torch.zeros(())
    for connector, s, t in zip(loss.connectors, student.features.values(), teacher.features.values(), strict=True):
        negative = (t < 0).float()
        margin = (t * negative).sum((0, 2, 3)) / negative.sum((0, 2, 3)).clamp(min=1)
        ours, theirs = connector(s), torch.max(t, margin.view(1, -1, 1, 1))
        gap = F.mse_loss(ours, theirs, reduction="none")
        total = total + (gap * ((ours > theirs) | (theirs > 0)).float()).sum()
    return total / len(labels)
