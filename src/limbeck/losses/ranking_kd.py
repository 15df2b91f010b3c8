r"""Distillation of ranks: the student puts the classes in the teacher's order.

With :math:`\pi_1, \pi_2, \ldots` the classes from the one that the teacher prefers downwards, of which the first k count,

.. math:: \sum_{i=1}^{k} \left( \log \sum_{j \ge i} e^{z^s_{\pi_j}} - z^s_{\pi_i} \right)
          \qquad \text{or} \qquad \frac{1}{|P|} \sum_{(i, j) \in P} \max\left(0, m - (z^s_{\pi_i} - z^s_{\pi_j})\right)

The first (`form: listwise`) is ListMLE: how improbable the teacher's order is if the student draws classes one after the other by its
softmax; j runs over all classes that are left. The second (`pairwise`) is the margin ranking loss over the pairs P of those of
the k classes, and of the rest's class that the student likes best, that the teacher tells apart. Neither asks for the size of the
teacher's logits, only for their order. As DistillKit has them for a teacher of whom the k classes are stored, there are also, over the
pairs of those alone, RankNet's :math:`-\log \sigma(z^s_{\pi_i} - z^s_{\pi_j})` (`logistic`), and the margin ranking loss of the student's
probabilities whose margin is the difference of the teacher's (`gap`).

When to use: the teacher's confidence is badly calibrated, or on another scale than the student's (another kind of model, rounded or
truncated scores), but its order can be trusted; beside a term on labels. `top` bounds how deep, since the order of classes that the teacher
holds to be impossible is noise.

Cost: of order b C for b examples and C classes; `pairwise` b :math:`k^2` more; no parameters.

Reference: ListMLE: Xia et al., "Listwise Approach to Learning to Rank", ICML 2008; as a distillation loss ("hard transfer",
there between examples): Chen et al., "DarkRank", AAAI 2018, arXiv:1707.01220, section 3; on classes, weighted: Bassam et al., "PLD",
2025, arXiv:2506.12542. Pairs: Joachims, "Optimizing Search Engines using Clickthrough Data", KDD 2002; Burges et al., "Learning to Rank
using Gradient Descent", ICML 2005.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ..ops.divergence import log_softmax
from ..ops.precision import widen
from ..ops.ranks import hinge_pairs, log_likelihood, logistic_pairs, preferred_pairs
from ..types import Needs, NonNegative, PositiveInt, Signals
from .base import Loss, logit_pair

_NEVER = -1e30
"""A logit that no class reaches."""


def listwise(student: Tensor, teacher: Tensor, *, top: int) -> Tensor:
    """Minus the log-likelihood of the teacher's first `top` classes, in its order; `(..., classes)` to `(...)`."""
    student = log_softmax(student)  # the level does not matter, and near 0 the sums are exact
    order = teacher.topk(min(top, teacher.shape[-1])).indices
    ranked = student.gather(-1, order)
    rest = student.scatter(-1, order, _NEVER).logsumexp(-1, keepdim=True)
    return -log_likelihood(torch.cat([ranked, rest], -1))  # the last is drawn for certain: 0


def pairwise(student: Tensor, teacher: Tensor, *, top: int, margin: float) -> Tensor:
    """Mean hinge of the pairs among the teacher's first `top` classes and the best of the rest; `(..., classes)` to `(...)`."""
    student, teacher = widen(student), widen(teacher)
    worth, order = teacher.topk(min(top, teacher.shape[-1]))
    scores = student.gather(-1, order)
    if order.shape[-1] < teacher.shape[-1]:
        rest = (logits.scatter(-1, order, _NEVER).amax(-1, keepdim=True) for logits in (student, teacher))
        scores, worth = (torch.cat(pair, -1) for pair in zip((scores, worth), rest, strict=True))
    above = worth.unsqueeze(-1) > worth.unsqueeze(-2)
    hinge = (margin - (scores.unsqueeze(-1) - scores.unsqueeze(-2))).clamp_min(0)
    return (hinge * above).sum((-1, -2)) / above.sum((-1, -2)).clamp_min(1)


def preferences(
    student: Tensor, worth: Tensor, index: Tensor, *, form: Literal["logistic", "gap"], margin: float | None, least: float
) -> tuple[Tensor, Tensor]:
    """Sum over the pairs of classes that the teacher tells apart, and their number.

    Args:
        student: logits of all classes, `(..., classes)`.
        worth: the teacher's probabilities of k classes, `(..., k)`.
        index: which classes they are, `(..., k)`.
        form: of logits, or of probabilities.
        margin: of `gap`; None for the difference of the teacher's probabilities.
        least: by how much probabilities must differ, and be above 0.

    Returns:
        Two tensors `(...)`.
    """
    chosen = preferred_pairs(worth, least=least)
    if form == "logistic":
        values = logistic_pairs(widen(student).gather(-1, index))
    else:
        gaps = worth.unsqueeze(-1) - worth.unsqueeze(-2)
        values = hinge_pairs(widen(student).softmax(-1).gather(-1, index), gaps if margin is None else margin)
    return values.masked_fill(~chosen, 0).sum((-1, -2)), chosen.sum((-1, -2))


@final
@dataclass(eq=False, repr=False, kw_only=True)
class RankingKD(Loss):
    """Compares the order of the classes and nothing else."""

    exempt: ClassVar = {"equality": "the order can always be made clearer, and any student of the same order is as good"}

    form: Literal["listwise", "pairwise", "logistic", "gap"] = "listwise"
    """The whole list at once, or pairs."""
    top: PositiveInt = 10
    """Number k of the teacher's first classes whose order counts; all where there are fewer."""
    margin: NonNegative = 1.0
    """Distance m that `pairwise` asks for between two classes, in logits."""

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        pair = logit_pair(student, teacher)
        if self.form == "listwise":
            return listwise(*pair, top=self.top)
        if self.form == "pairwise":
            return pairwise(*pair, top=self.top, margin=self.margin)
        worth, index = widen(pair[1]).softmax(-1).topk(min(self.top, pair[1].shape[-1]))
        total, count = preferences(pair[0], worth, index, form=self.form, margin=None, least=1e-9)
        return total / count.clamp_min(1)
