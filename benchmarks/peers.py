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


# relations


def cka(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Kernels centred by products with a matrix."""
    batch = len(labels)
    centre = torch.eye(batch) - torch.ones(batch, batch) / batch
    ours, theirs = (centre @ (x.feature.flatten(1) @ x.feature.flatten(1).t()) @ centre for x in (student, teacher))
    return 1 - (ours * theirs).sum() / (ours.norm() * theirs.norm())


def darkrank(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Distances from squares, all of them sorted, and a sum of exponentials a place."""

    def scores(feature: Tensor) -> Tensor:
        x = F.normalize(feature.flatten(1))
        squares = x.square().sum(1)
        distances = (squares.unsqueeze(1) + squares - 2 * x @ x.t()).clamp_min(1e-12).sqrt()
        return -3 * (distances * (1 - torch.eye(len(x)))) ** 3

    order = scores(teacher.feature).sort(1, descending=True)[1][:, 1:5]
    ranked = scores(student.feature).gather(1, order)
    return torch.stack([torch.logsumexp(ranked[:, place:], 1) - ranked[:, place] for place in range(4)]).sum(0).mean()


def token_relation(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """All pairs of positions."""
    ours, theirs = (torch.bmm(x.feature.flatten(2).transpose(1, 2), x.feature.flatten(2)).flatten(1) for x in (student, teacher))
    return 1 - F.cosine_similarity(ours, theirs, dim=1).mean()


def neighbour_product(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """As in RepDistiller."""
    delta = torch.abs(student.feature - teacher.feature)
    return (delta[:-1] * delta[1:]).sum(1).mean()


def gssf(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The whole matrix W with its zeros."""
    matrix = torch.block_diag(*loss.metric)
    s, t = F.normalize(student.feature, dim=1), F.normalize(teacher.feature, dim=1)
    return F.cross_entropy(s @ matrix @ t.t() / 0.1, torch.arange(len(s)))


def wcord(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same linear maps; the critic's values of all pairs."""
    s, t = (critic(F.normalize(x.feature, dim=1)) for critic, x in zip(loss.critics, (student, teacher), strict=True))
    scores = t @ s.t()
    batch = len(s)
    apart = scores[~torch.eye(batch, dtype=torch.bool)].mean()
    s2, t2 = (F.normalize(linear(x.feature), dim=1) for linear, x in zip(loss.maps, (student, teacher), strict=True))
    cost = 1 - t2 @ s2.t()
    plan = torch.exp(-cost / 0.1)
    for _ in range(20):
        plan = plan / plan.sum(1, keepdim=True)
        plan = plan / plan.sum(0, keepdim=True)
    return 0.8 * (apart - scores.diagonal().mean()) + 0.05 * (plan * cost).sum() / batch


def fsp(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Matrices of channels by channels."""
    (s1, s2), (t1, t2) = (list(x.features.values()) for x in (student, teacher))
    ours, theirs = (torch.bmm(a.flatten(2), b.flatten(2).transpose(1, 2)) / a.flatten(2).shape[2] for a, b in ((s1, s2), (t1, t2)))
    return (ours - theirs).square().sum() / len(s1)


def mgd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same convolutions; a mask drawn and compared."""
    batch, _, height, width = student.feature.shape
    mask = torch.where(torch.rand(batch, 1, height, width) > 1 - 0.65, 0, 1)
    return F.mse_loss(loss.generation(loss.align(student.feature) * mask), teacher.feature, reduction="sum") / batch


class ContrastMemory:
    """Contrast with a memory: negatives by the alias method, their vectors copied for every example, all at once."""

    def __init__(self, loss: Any, examples: int, negatives: int) -> None:
        self.loss, self.examples, self.negatives = loss, examples, negatives
        self.memories = [F.normalize(torch.randn(examples, 128), dim=1) for _ in range(2)]
        self.chances, self.alias = torch.ones(examples), torch.zeros(examples, dtype=torch.long)
        self.normalisers: list[Tensor | None] = [None, None]

    def __call__(self, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
        """Both directions."""
        index = student.extra["index"]
        batch = len(index)
        drawn = torch.randint(self.examples, (batch * (self.negatives + 1),))
        first = torch.bernoulli(self.chances[drawn]).long()
        rows = (drawn * first + self.alias[drawn] * (1 - first)).view(batch, -1)
        rows[:, 0] = index
        ours = F.normalize(self.loss.student_embedding(student.feature), dim=1)
        theirs = F.normalize(self.loss.teacher_embedding(teacher.feature), dim=1)
        total = torch.zeros(())
        for i, own in enumerate((ours, theirs)):
            vectors = self.memories[1 - i].index_select(0, rows.view(-1)).view(batch, -1, 128)
            scores = torch.exp(torch.bmm(vectors, own.unsqueeze(2)).squeeze(2) / 0.1)
            normaliser = self.normalisers[i]
            if normaliser is None:
                self.normalisers[i] = normaliser = scores.mean().detach() * self.examples
            scores = scores / normaliser
            noise = self.negatives / self.examples
            positive = torch.log(scores[:, 0] / (scores[:, 0] + noise + 1e-7)).sum()
            negative = torch.log(noise / (scores[:, 1:] + noise + 1e-7)).sum()
            total = total - (positive + negative) / batch
        with torch.no_grad():
            for memory, own in zip(self.memories, (ours, theirs), strict=True):
                memory[index] = F.normalize(0.5 * memory[index] + 0.5 * own, dim=1)
        return total


def cwd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The logarithm of an explicit softmax over the positions of each channel, temperature 4."""
    batch, channels = student.feature.shape[:2]
    ours, theirs = (F.softmax(x.feature.reshape(batch, channels, -1) / 4, 2) for x in (student, teacher))
    return 16 * F.kl_div(ours.log(), theirs, reduction="sum") / (batch * channels)


def pixel_kl(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """Pixels as rows, the teacher from the student."""
    ours, theirs = (x.feature.permute(0, 2, 3, 1).reshape(-1, x.feature.shape[1]) for x in (student, teacher))
    log_s, log_t = F.log_softmax(ours, 1), F.log_softmax(theirs, 1)
    return (log_s.exp() * (log_s - log_t)).sum(1).mean()


def affinity(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """All pairs of positions."""
    ours, theirs = (F.normalize(x.feature.flatten(2), dim=1) for x in (student, teacher))
    gap = torch.bmm(ours.transpose(1, 2), ours) - torch.bmm(theirs.transpose(1, 2), theirs)
    return (gap / ours.shape[2]).flatten(1).norm(dim=1).mean()


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


def simkd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same projector."""
    return F.mse_loss(loss.projector(student.feature), teacher.feature)


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


def trg(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The same sample and linear map; all distances, neighbours by sorting."""
    ours, theirs = (x.feature.flatten(2).transpose(1, 2) for x in (student, teacher))
    first, second = (F.softmax(torch.bmm(x, x.transpose(1, 2)) / x.shape[2] ** 0.5, 2) for x in (ours, theirs))
    inner = F.mse_loss(first, second)
    s, t = (x[:, (torch.arange(8) * x.shape[1] + x.shape[1] // 2) // 8].flatten(0, 1) for x in (ours, theirs))

    def graph(x: Tensor) -> Tensor:
        squares = torch.cdist(x, x).square()
        radius = squares.sort(1).values[:, 8:9]
        kept = (squares <= radius) & ~torch.eye(len(x), dtype=torch.bool)
        return torch.exp(-squares / 2) * kept

    local = F.kl_div(F.log_softmax(graph(F.normalize(s, dim=1)), 1), F.softmax(graph(F.normalize(t, dim=1)), 1), reduction="batchmean")
    scores = F.normalize(loss.project(s), dim=1) @ F.normalize(t, dim=1).t() / 0.1
    return inner + local + F.cross_entropy(scores, torch.arange(len(s)))


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


def afd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same attention; every layer of the student resized and normalised for every one of the teacher."""
    ours, theirs = list(student.features.values()), list(teacher.features.values())
    attention = loss.attention(ours, theirs)
    total = torch.zeros(())
    for i, t in enumerate(theirs):
        target = F.normalize(t.pow(2).mean(1).flatten(1), dim=1)
        for j, s in enumerate(ours):
            resized = s if s.shape[2] == t.shape[2] else (
                F.adaptive_avg_pool2d(s, t.shape[2]) if s.shape[2] > t.shape[2] else F.interpolate(s, t.shape[2], mode="bilinear")
            )  # fmt: skip
            gap = (F.normalize(resized.pow(2).mean(1).flatten(1), dim=1) - target).pow(2).mean(1)
            total = total + (attention[:, i, j] * gap).sum()
    return total / len(labels)


def semckd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same attention and projectors."""
    ours, theirs = list(student.features.values()), list(teacher.features.values())
    attention = loss.attention(ours, theirs)
    total = torch.zeros(())
    for i, s in enumerate(ours):
        for j, t in enumerate(theirs):
            size = min(s.shape[2], t.shape[2])
            first, second = (x if x.shape[2] == size else F.adaptive_avg_pool2d(x, size) for x in (s, t))
            gap = F.mse_loss(loss.projectors[i][j](first), second, reduction="none").flatten(1).mean(1)
            total = total + (attention[:, i, j] * gap).sum()
    return total / (len(labels) * len(ours))


def wa_kd(student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """At temperature 2; the old classes are the first."""
    old = teacher.logits.shape[1]
    return -(F.softmax(teacher.logits / 2, 1) * F.log_softmax(student.logits[:, :old] / 2, 1)).sum(1).mean()


class Subclasses:
    """Pseudo-subclasses of our loss's state as it is at the start; each class on its own, with the covariance of its embeddings."""

    def __init__(self, loss: Any) -> None:
        self.head, self.rotation, self.memory = loss.head, loss.rotation, loss.memory
        self.basis, self.means, self.spread, self.seen = (x.clone() for x in (loss.basis, loss.means, loss.spread, loss.seen))

    def follow(self, rows: Tensor, shares: Tensor) -> None:
        """Moves the mean and the directions of every class by a step of the same iteration."""
        for c in range(len(self.means)):
            count = shares[:, c].sum()
            rate, share = count / (self.seen[c] + count), shares[:, c] / count
            self.means[c] += rate * (share @ rows - self.means[c])
            centred = rows - self.means[c]
            covariance = (centred * share[:, None]).t() @ centred
            mixed = (1 - rate) * self.basis[c] * self.spread[c] + rate * covariance @ self.basis[c]
            found, triangle = torch.linalg.qr(mixed)
            sign = torch.sign((found * self.basis[c]).sum(0))
            self.basis[c], self.spread[c] = found * sign, triangle.diagonal().abs()
            self.seen[c] = (self.seen[c] + count).clamp(max=self.memory)

    def __call__(self, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
        """The cross-entropy of the joint distributions."""
        assert teacher.head is not None
        with torch.no_grad():
            weight, p = teacher.head.weight, F.softmax(teacher.logits, 1)
            rows = teacher.feature - teacher.feature @ torch.linalg.pinv(weight) @ weight
            self.follow(rows, p)
            scores = torch.stack([(rows - m) @ b @ self.rotation.t() for m, b in zip(self.means, self.basis, strict=True)], 1)
            joint = p[:, :, None] * F.softmax(scores / self.spread.mean(1)[:, None].sqrt(), 2)
        splits = self.head(student.feature).view(*student.logits.shape, -1)
        ours = F.log_softmax((student.logits[:, :, None] + F.log_softmax(splits, 2)).flatten(1), 1)
        return -(joint.flatten(1) * ours).sum(1).mean()


def mi_bound(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The interpolated bound with the same critics and baseline, all of them matrices of the batch."""
    ours, theirs = (F.normalize(x.feature, dim=1) * x.feature.shape[1] ** 0.5 for x in (student, teacher))
    scores, learned = loss.teacher_critic(theirs) @ loss.student_critic(ours).t(), loss.baseline(theirs)
    batch = len(scores)
    own, half = torch.eye(batch), math.log(0.5)
    highest = scores.max(1, keepdim=True).values
    gap = torch.logsumexp(scores - highest, 1, keepdim=True) + highest - scores
    others = scores + gap + torch.log(-torch.expm1(-gap)) - math.log(batch - 1)
    baseline = torch.logsumexp(torch.stack([others + half, (learned + half).expand(batch, batch)]), 0)
    joint = scores.diag()[:, None] - baseline
    marginal = torch.exp(scores - baseline.diag()[:, None])
    return (((marginal - joint) * (1 - own)).sum() / (batch * (batch - 1))) - 1


def sskd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """The same projections; cosines of all pairs expanded, and the rotated images that count chosen by sorting."""
    ours, theirs = (student, *student.views), (teacher, *teacher.views)
    batch, views = len(labels), len(student.views)

    def cosines(project: Any, shown: tuple[Signals, ...]) -> Tensor:
        embedded = [project(x.feature) for x in shown]
        turned, plain = torch.stack(embedded[1:], 1).flatten(0, 1), embedded[0]
        size = (batch * views, batch, plain.shape[1])
        return F.cosine_similarity(turned.unsqueeze(1).expand(size), plain.unsqueeze(0).expand(size), dim=2)

    def counted(scores: Tensor, targets: Tensor, share: float) -> Tensor:
        order = scores.argsort(1, descending=True)
        rank = (order == targets[:, None]).nonzero()[:, 1]
        errors = rank - scores.gather(1, targets[:, None])[:, 0]
        wrong = int((rank > 0).sum())
        return errors.argsort()[: len(errors) - wrong + int(wrong * share)]

    def divergence(s: Tensor, t: Tensor, rows: Tensor, temperature: float) -> Tensor:
        log_s, p_t = F.log_softmax(s[rows] / temperature, 1), F.softmax(t[rows] / temperature, 1)
        return temperature**2 * F.kl_div(log_s, p_t, reduction="batchmean")

    s_cosines, t_cosines = cosines(loss.student_projection, ours), cosines(loss.teacher_projection, theirs)
    origin = torch.arange(batch).repeat_interleave(views)
    known = t_cosines.detach()
    similar = divergence(s_cosines, known, counted(F.softmax(known / 0.5, 1), origin, 0.75), 0.5)
    s, t = (torch.stack([x.logits for x in shown], 1) for shown in (ours, theirs))
    targets = labels.repeat_interleave(views)
    s_turned, t_turned = (x[:, 1:].flatten(0, 1) for x in (s, t))
    rotated = divergence(s_turned, t_turned, counted(F.softmax(t_turned / 4, 1), targets, 1.0), 4.0)
    plain = divergence(s[:, 0], t[:, 0], torch.arange(batch), 4.0)
    return 0.9 * plain + 2.7 * rotated + 10 * similar + F.cross_entropy(t_cosines, origin)
