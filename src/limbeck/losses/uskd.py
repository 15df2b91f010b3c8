r"""Universal self-distillation: soft labels made from the student itself.

.. math:: - \alpha \, (s_y^2 + v - \overline{s_y^2}) \log s_y - \beta \sum_{c \ne y} \hat z_c \log \hat s_c
          - \mu \sum_c \tilde y_c \log w_c

where s is the student's softmax, v the value of the label (1, or its share in a mixed one), the bar the mean over the batch, and
:math:`\hat s` the softmax over the classes that are not labels. Their targets follow Zipf's law: the class of rank k gets 1/k,
normalised, in the order of :math:`s_c / (1 - s_y) + w_c / (1 - w_y)`, where w is a weak classifier that is learned on a middle layer with
the smoothed labels :math:`\tilde y` (a tenth spread evenly). Targets carry no gradient. The usual cross-entropy comes beside it.

In the authors' code the ranking takes the student's logarithms, :math:`\log s_c / (1 - \log s_y)`, instead of its probabilities
(`variant: official`).

When to use: there is no teacher. Tap a middle layer of the student. On small data start with alpha, beta and mu of 0.1.

Cost: of order b C log C for b examples and C classes; C (c + 1) parameters for a layer of c channels.

Reference: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and
Customized Soft Labels", ICCV 2023, arXiv:2303.13005, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..ops.divergence import log_softmax
from ..ops.layouts import as_positions, pooled
from ..ops.precision import widen, without_autocast
from ..types import IGNORE, Needs, NonNegative, Signals
from .base import Loss, logits_of, required


def self_distillation(logits: Tensor, weak: Tensor, labels: Tensor, *, log_rank: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The terms of the label, of the other classes and of the weak classifier, means over the labelled examples.

    Args:
        logits: `(batch, classes)`.
        weak: those of the weak classifier, `(batch, classes)`.
        labels: class indices `(batch,)`, -100 where unlabelled; or shares `(batch, classes)`, of which the two largest count as labels.
        log_rank: whether the student's log-probabilities rank the classes.
    """
    log_s, log_w = log_softmax(logits), log_softmax(weak)
    s, w = (widen(x.detach()).softmax(1) for x in (logits, weak))  # of these, targets are made
    if labels.ndim == logits.ndim:
        shares = labels.to(s.dtype)
        known = shares.new_ones(len(shares))
        ordered = shares.sort(descending=True, stable=True)  # mutate: equivalent constant (on the CPU every sort is stable)
        value, index = (x[:, :2] for x in ordered)
    else:
        known = labels != IGNORE
        index = labels.clamp_min(0).unsqueeze(1)
        value = torch.ones_like(s[:, :1])
        shares = torch.zeros_like(s).scatter(1, index, 1.0)
    count, real = known.sum().clamp_min(1), value > 0

    def mean(values: Tensor) -> Tensor:
        return (values * known).sum() / count

    square = s.gather(1, index).square()
    wanted = square + value - (square * known.unsqueeze(1)).sum(0) / count
    of_label = mean(-(wanted.masked_fill(~real, 0.0) * log_s.gather(1, index)).sum(1))
    classes = s.shape[1]
    of_weak = mean(-((0.9 * shares + 0.1 / classes) * log_w).sum(1))

    strong = log_s if log_rank else s  # what is sorted carries no gradient
    by_weak, by_strong = (x / (1 - (x.gather(1, index) * real).sum(1, keepdim=True) + 1e-6) for x in (w, strong))
    order = (by_weak + by_strong).argsort(descending=True, stable=True)
    ranks = torch.arange(1, classes + 1, device=s.device)
    zipf = torch.empty_like(s).scatter(1, order, ranks.to(s.dtype).reciprocal().expand_as(s))
    label = torch.zeros_like(s, dtype=torch.bool).scatter(1, index, real)
    zipf = zipf.masked_fill(label, 0.0)
    zipf = zipf / zipf.sum(1, keepdim=True).clamp_min(torch.finfo(s.dtype).tiny)
    others = log_s.masked_fill(label, torch.finfo(s.dtype).min).log_softmax(1)
    return of_label, mean(-(zipf * others).sum(1)), of_weak


@final
@dataclass(eq=False, repr=False, kw_only=True)
class USKD(Loss):
    """No teacher: the label is pulled by how sure the student already is, the rest by a ranking of its own making."""

    exempt: ClassVar[Mapping[str, str]] = {"gradcheck": "the targets are made from the student and held fixed"}
    teaches: ClassVar[bool] = True

    alpha: NonNegative = 1.0
    """Weight of the label's term."""
    beta: NonNegative = 0.1
    """Weight of the term on the other classes."""
    mu: NonNegative = 0.005
    """Weight of the weak classifier's term."""
    variant: Literal["paper", "official"] = "paper"
    """Ranking by the student's probabilities, or by their logarithms as in the authors' code."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, labels=True, teacher=False, features="one", match="any", label_kinds=("class",), global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        feature = as_positions(student.feature)
        self.weak = nn.Linear(feature.shape[1], logits_of(student).shape[1], device=feature.device)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        vectors = pooled(student.feature)
        with without_autocast(vectors):
            weak = self.weak(vectors.to(self.weak.weight.dtype))
        terms = self_distillation(logits_of(student), weak, required(labels), log_rank=self.variant == "official")
        return self.alpha * terms[0] + self.beta * terms[1] + self.mu * terms[2]
