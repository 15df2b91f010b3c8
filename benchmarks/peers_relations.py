"""The losses on relations, between examples, layers or places, and those with a memory, in plain torch; see peers.py."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.types import Signals


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


def simkd(loss: Any, student: Signals, teacher: Signals, labels: Tensor) -> Tensor:
    """With the same projector."""
    return F.mse_loss(loss.projector(student.feature), teacher.feature)


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
