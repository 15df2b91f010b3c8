r"""Mutual information between the features of teacher and student, from below.

.. math:: - \left( 1 + \frac{1}{b (b - 1)} \sum_{i \ne j} \log \frac{e^{f_{ii}}}{m_{ij}}
          - \frac{1}{b (b - 1)} \sum_{i \ne j} \frac{e^{f_{ij}}}{m_{ii}} \right), \qquad
          m_{ij} = \frac{\alpha}{b - 1} \sum_{k \ne j} e^{f_{ik}} + (1 - \alpha) e^{a_i}

where :math:`f_{ij}` is a learned critic's score of teacher i with student j of a batch of b, and :math:`a_i` a learned baseline of
teacher i (`bound: alpha`). Other bounds: `tuba`, the learned baseline alone,
:math:`1 + \overline{f_{ii} - a_i} - \overline{e^{f_{ij} - a_i}}`; `nwj`, the same with :math:`a = 1`;
`infonce`, :math:`\overline{\log e^{f_{ii}} / \sum_j e^{f_{ij}}} + \log b`.

The critic is `separable`, the inner product of two perceptrons, or `concatenated`, one perceptron of both features. Features are averaged
over positions and brought to a mean square of 1 first, so that no score overflows because of their level. A batch of one says nothing: 0.

The public code loses the sum over k where one score towers above the others (`variant: official`); its text has the ends of
:math:`\alpha` the other way round. It conditions on the student, with a baseline of the teacher; here both are of the teacher.

When to use: features of any two models (text, vision) that need not be alike, only tell each other apart; large batches.

Cost: of order b h^2 for perceptrons of width h (b^2 h^2 where `concatenated`, in memory `chunk` b h), which are the parameters.

Reference: He et al., "Distiller: A Systematic Study of Model Distillation Methods in Natural Language Processing", SustaiNLP 2021,
arXiv:2109.11105, section 3; the bounds are of Poole et al., "On Variational Bounds of Mutual Information", ICML 2019, arXiv:1905.06922.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ..ops.geometry import unit
from ..ops.information import explicit_log_mean_exp_without, infonce, interpolated, log_mean_exp_without, tuba
from ..ops.layouts import as_positions, pooled
from ..ops.precision import without_autocast
from ..ops.slices import in_slices
from ..types import Fraction, Needs, PositiveInt, Signals
from ._perceptron import Perceptron
from .base import Loss


def levelled(feature: Tensor) -> Tensor:
    """A feature averaged over positions, with a mean square of 1; `(batch, channels)`."""
    vectors = pooled(feature)
    return unit(vectors) * math.sqrt(vectors.shape[1])


@final
@dataclass(eq=False, repr=False, kw_only=True)
class MIBound(Loss):
    """Lets the student's feature tell what the teacher's is; the negative of a lower bound on what they know of each other."""

    exempt: ClassVar[Mapping[str, str]] = {"equality": "the negative of a bound on the information, which equal features do not exhaust"}

    bound: Literal["alpha", "infonce", "nwj", "tuba"] = "alpha"
    """Which bound."""
    alpha: Fraction = 0.5
    """Weight of the batch in the baseline of `alpha`, against the learned one; the paper tries 0.1, 0.5 and 0.9."""
    critic: Literal["separable", "concatenated"] = "separable"
    """What scores a pair."""
    hidden: PositiveInt = 512
    """Width h of the critic."""
    dim: PositiveInt = 32
    """What the two halves of a separable critic give."""
    variant: Literal["paper", "official"] = "paper"
    """The exact bound, or the arithmetic of the public code."""
    chunk: PositiveInt = 64
    """Number of teachers that a concatenated critic scores at once; it does not change the value."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any", global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, theirs = (as_positions(signals.feature).shape[1] for signals in (student, teacher))
        inner, device = (self.hidden, self.hidden), student.feature.device
        if self.critic == "separable":
            self.student_critic = Perceptron(ours, *inner, self.dim).to(device)
            self.teacher_critic = Perceptron(theirs, *inner, self.dim).to(device)
        else:
            self.pair_critic = Perceptron(ours + theirs, *inner, 1).to(device)
        if self.bound in ("alpha", "tuba"):
            self.baseline = Perceptron(theirs, *inner, 1).to(device)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = levelled(student.feature), levelled(teacher.feature)
        scores = self.scores(ours, theirs)
        if len(scores) == 1:
            return 0 * scores.sum()  # mutate: equivalent function (it is one number)
        if self.bound == "infonce":
            return -infonce(scores)
        if self.bound == "nwj":
            return -tuba(scores, 1.0)
        log_baseline = self.baseline(theirs).squeeze(1)
        if self.bound == "tuba":
            return -tuba(scores, log_baseline)
        others = log_mean_exp_without(scores) if self.variant == "paper" else explicit_log_mean_exp_without(scores)
        return -interpolated(scores, log_baseline, others, alpha=self.alpha)

    def scores(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The critic of each teacher with each student, vectors `(batch, channels)` to `(batch, batch)`."""
        if self.critic == "separable":
            ours, theirs = self.student_critic(student), self.teacher_critic(teacher)
            with without_autocast(ours):
                return theirs @ ours.T

        def part(student: Tensor, teacher: Tensor, rows: slice) -> Tensor:
            wanted = teacher[rows]
            both = torch.cat([student.expand(len(wanted), -1, -1), wanted.unsqueeze(1).expand(-1, len(student), -1)], 2)
            return self.pair_critic(both.flatten(0, 1)).unflatten(0, both.shape[:2]).squeeze(2)

        return torch.cat(in_slices(part, student, teacher, size=len(student), chunk=self.chunk))
