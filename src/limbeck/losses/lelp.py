r"""Learning embedding linear projections: classes split by the teacher's embedding.

.. math:: -\sum_{c,k} q_{ck} \log softmax(z)_{ck}, \qquad q_{ck} = p^t_c \, softmax_k(u_c), \qquad
          u_c = \frac{\beta}{\sigma_c} R V_c^T (N h - \mu_c)

where h is the teacher's embedding, N the projection onto the null space of its classifier, so that only what the logits do not say is
left, :math:`V_c` the first K principal directions of class c there, R a random rotation that spreads the variance evenly,
:math:`\sigma_c` the mean deviation along the directions, and :math:`p^t` the softmax at temperature T. With few classes the logits say
little; the pseudo-subclasses say how the teacher groups examples within a class.

The student's z has K outputs for each class. Here :math:`z_{ck} = z^s_c / T + \log softmax_k(w_{ck} \cdot f)` with the student's own
logits and a linear head w that is learned on its tapped feature f: any z can be written so, and summing the probabilities of a class over
its subclasses, as the paper does in the end, gives back the student's own. The exported student is thus complete without the head.

The paper finds means and directions in one pass over the training set; here they are followed from batch to batch, every example counting
for a class as much as the teacher thinks, with a memory of `memory` examples of a class, while the loss is trained. There is no public
code; dividing by :math:`\sigma_c` and the defaults are not the paper's.

When to use: two to ten classes and a teacher with a rich embedding. Tap what the heads read: `student: "head:input"`.

Cost: of order b C K d for b examples, C classes and d channels; C K (c + 1) parameters for c channels of the student.

Reference: Loo, Iliopoulos, Hu, Vee, "Linear Projections of Teacher Embeddings for Few-Class Distillation", 2024, arXiv:2409.20449,
section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ..errors import ShapeMismatch
from ..ops.divergence import log_softmax
from ..ops.layouts import as_positions, pooled
from ..ops.precision import widen, without_autocast
from ..ops.subspace import centred_scores, follow_subspaces, unseen
from ..types import Needs, Positive, PositiveInt, Signals
from .base import Loss, head_of, logit_pair


def subclass_cross_entropy(student: Tensor, splits: Tensor, teacher: Tensor, coordinates: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy with the pseudo-subclasses, `(batch,)`.

    `student` and `teacher` are logits `(batch, classes)`; the softmax of `splits` is how the student splits each class, that of
    `coordinates` how the teacher does, both `(batch, classes, subclasses)`.
    """
    p = log_softmax(widen(teacher) / temperature).exp()
    within = (coordinates.softmax(-1) * log_softmax(splits)).sum(-1)
    return -(p * (log_softmax(widen(student) / temperature) + within)).sum(1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class LELP(Loss):
    """Gives the student more to learn than a few classes hold: where in its embedding the teacher puts the examples of a class."""

    exempt: ClassVar[Mapping[str, str]] = {
        "equality": "a cross-entropy, and a head that is learned stands before its subclasses",
        **dict.fromkeys(("gradcheck", "compile"), "each call with a gradient moves the directions, which the next call reads"),
    }

    subclasses: PositiveInt = 5
    """Number K of pseudo-subclasses of each class."""
    sharpness: Positive = 1.0
    """Factor on the coordinates; the larger, the harder the split."""
    temperature: Positive = 1.0
    """Softmax temperature T of the classes."""
    memory: PositiveInt = 10_000
    """How many examples of a class the means and directions remember."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="one", match="any", head="teacher", label_kinds=("class",), global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, k = as_positions(student.feature), self.subclasses
        (classes, channels), found = head_of(teacher).weight.shape, as_positions(teacher.feature).shape[1]
        if found != channels:
            raise ShapeMismatch(f"the teacher's classifier reads {channels} channels, its tapped layer has {found}; tap its 'head:input'.")
        if k > channels:
            raise ShapeMismatch(f"LELP.subclasses: expected at most {channels}, the channels of the teacher's embedding, found {k}.")
        self.head = nn.Linear(ours.shape[1], classes * k, device=ours.device)
        like = {"device": ours.device, "dtype": torch.float32}
        self.rotation = nn.Buffer(torch.linalg.qr(torch.randn(k, k, **like)).Q)
        self.basis = nn.Buffer(torch.linalg.qr(torch.randn(classes, channels, k, **like)).Q)
        self.means = nn.Buffer(torch.zeros(classes, channels, **like))
        self.spread = nn.Buffer(torch.zeros(classes, k, **like))
        self.seen = nn.Buffer(torch.zeros(classes, **like))

    def _follow(self, rows: Tensor, shares: Tensor) -> None:
        counts = shares.sum(0)
        rate = counts / (self.seen + counts).clamp_min(torch.finfo(counts.dtype).tiny)
        state = follow_subspaces(rows, shares, self.means, self.basis, self.spread, rate)
        for buffer, value in zip((self.means, self.basis, self.spread), state, strict=True):
            buffer.copy_(value)
        self.seen.copy_((self.seen + counts).clamp_max(self.memory))

    def coordinates(self, rows: Tensor) -> Tensor:
        """What the teacher's split of each class is the softmax of, `(batch, channels)` to `(batch, classes, subclasses)`."""
        scores = centred_scores(rows, self.means, self.basis)
        floor = self.means.square().sum(1) * torch.finfo(scores.dtype).eps + torch.finfo(scores.dtype).tiny
        return self.sharpness * (scores @ self.rotation.mT) / (self.spread.mean(1) + floor).sqrt().unsqueeze(1)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = logit_pair(student, teacher)
        feature = pooled(student.feature)
        with without_autocast(feature):
            rows = unseen(pooled(teacher.feature), head_of(teacher).weight).detach().to(self.basis.dtype)
            if self.training and ours.requires_grad:  # what is only measured leaves the directions as they are
                self._follow(rows, log_softmax(theirs).exp().detach().to(rows.dtype))
            splits = self.head(feature.to(self.head.weight.dtype)).unflatten(1, (-1, self.subclasses))
            coordinates = self.coordinates(rows)
        return subclass_cross_entropy(ours, splits, theirs, coordinates, temperature=self.temperature).mean()
