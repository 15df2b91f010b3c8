r"""Self-distillation that counts as much as the teacher ranks right answers first.

.. math:: a \, T^2 \, D\left(p, q\right), \qquad a = \frac{1}{B} \sum_i \frac{1}{rank_i}

with :math:`p = softmax(z^t / T)` and :math:`q = softmax(z^s / T)`, where :math:`rank_i` is the place of the first right answer among the
`top` answers to which the teacher gives the highest scores, and :math:`1 / rank_i` is 0 where none of these is right. D is :math:`KL(p \|
q)` (`forward`), :math:`KL(q \| p)` (`reverse`) or their sum (`symmetric`). Of spans, whose ends are positions of a text, each end has its
own ranks, an answer is right from `near` positions before the true one to `near` - 1 behind it, and a is the mean over both ends; of
classes, only the true class is right.

a is taken over the labelled examples of a forward pass and carries no gradient (`over: batch`); `over: example` weighs every example by
its own rank instead. `quality: mrr` demands the true position itself. Without a it is `kd`. An example without a label has the value 0.

When to use: the teacher is an earlier state of the student (`teacher: {kind: snapshot}`), which at first knows little, and there are few
labels; what is learnt from it then grows with what it knows.

Cost: of order b C for b examples and C classes; no parameters.

Reference: Carrino et al., "Promoting Generalized Cross-lingual Question Answering in Few-resource Scenarios via Self-knowledge
Distillation", 2023, arXiv:2309.17134. In the authors' code, padding counts among the positions; here it has next to no probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ..ops.divergence import kl
from ..ops.precision import softened
from ..ops.ranks import first_hit
from ..types import Needs, NonNegativeInt, Positive, PositiveInt, Signals
from .base import Loss, logit_pair, required


@final
@dataclass(eq=False, repr=False, kw_only=True)
class SKDMap(Loss):
    """Distillation that trusts a teacher as far as it ranks the right answers first."""

    exempt: ClassVar = {
        "independence": "the weight of a batch is the mean over its examples; with `over: example` they are independent",
        "unlabelled": "the weight of a batch is the mean over its labelled examples",
    }

    temperature: Positive = 2.0
    """Softmax temperature T of both models."""
    divergence: Literal["forward", "reverse", "symmetric"] = "forward"
    """What is measured between the teacher's and the student's probabilities."""
    quality: Literal["map", "mrr"] = "map"
    """When an answer of the teacher is right: near the true position, or at it."""
    top: PositiveInt = 10
    """How many of the teacher's answers are looked at."""
    near: NonNegativeInt = 5
    """Of spans, with `map`: how far before the true position an answer is right, and one less behind it."""
    over: Literal["batch", "example"] = "batch"
    """Whether all examples of a forward pass have one weight, or each its own."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        z_s, z_t = logit_pair(student, teacher)
        truth = required(labels)
        known = truth >= 0
        p, q = softened(z_t, self.temperature), softened(z_s, self.temperature)
        forward = kl(p, q) if self.divergence != "reverse" else torch.zeros_like(p[..., 0])  # mutate: equivalent constant (all zeros)
        values = forward + kl(q, p) if self.divergence != "forward" else forward
        return torch.where(known, self.temperature**2 * self._weights(z_t, truth, known) * values, torch.zeros_like(values))

    def _weights(self, logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """How far the teacher is trusted: one value, or one an example."""
        spans = truth.ndim == 2 and self.quality == "map"
        before, after = (self.near, max(self.near - 1, 0)) if spans else (0, 0)
        found = first_hit(logits, truth, before=before, after=after, top=self.top)
        if self.over == "example":
            return found if truth.ndim == 1 else found.mean(1, keepdim=True)
        return (found * known).sum() / known.sum().clamp_min(1)
