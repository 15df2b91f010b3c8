r"""Mean squared error to the teacher's logits or features, or to real labels.

.. math:: \frac{1}{D} \sum_d (s_d - t_d)^2

over the D elements of an example; of tokens the loss gives a value each.

A term that names no layers compares the logits themselves (logit matching), of all classes or labels, softened by nothing.

With `target: labels` it is supervised regression and reads no teacher; a target that is NaN counts as fitted already.

When to use: the task is a regression (`target: labels` for the supervised term), or logits or features are to be matched in value and
not only in rank.

Cost: of order of the number of elements; no parameters.

Reference: Ba, Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014, arXiv:1312.6184, equation 2 (there a sum over the
outputs with a factor 1/2, which belong into the weight here). Beside `kd`: Kim et al., "Comparing Kullback-Leibler Divergence and Mean
Squared Error Loss in Knowledge Distillation", IJCAI 2021, arXiv:2105.08919.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch.nn.functional as F
from torch import Tensor

from ..ops.precision import widen
from ..ops.squares import mean_square
from ..types import Needs, Signals
from ._padding import kept_tokens, without_padding
from .base import Loss, agree, as_many, logits_of, pairs, required


def squared_error(student: Tensor, target: Tensor) -> Tensor:
    """Squared difference of every element, two tensors `(batch, ...)` to `(batch, ...)`.

    For losses that weigh the elements; where only their mean is wanted, `mean_squared_error` costs half of it.
    """
    student, target = agree(student, target)
    return F.mse_loss(widen(student), target, reduction="none")  # in the wider of the two precisions


def mean_squared_error(student: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference, two tensors `(batch, ...)` to `(batch,)`, of tokens `(batch, tokens, channels)` to `(batch, tokens)`."""
    student, target = agree(student, target)
    return mean_square(widen(student), target)  # mutate: equivalent swapped (symmetric)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class MSE(Loss):
    """Squared error on logits, or on features where the term names layers."""

    exempt: ClassVar = {"shift": "the level of the logits is part of what is matched"}

    target: Literal["teacher", "labels"] = "teacher"
    """What the student is pulled to: the teacher's signal, or the labels."""

    @property
    def needs(self) -> Needs:
        if self.target == "labels":
            return Needs(logits=True, labels=True, teacher=False, label_kinds=("real",))
        return Needs(logits=True, features="optional", padding=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        if self.target == "teacher":
            ours, theirs = pairs(student, teacher)[0]
            return without_padding(mean_squared_error(ours, theirs), kept_tokens(student, ours))
        logits, target = logits_of(student), required(labels)
        if target.ndim == logits.ndim - 1 and logits.shape[-1] == 1:
            target = target.unsqueeze(-1)
        target = as_many(logits, target)
        # A missing target takes the student's own value: no error and, unlike a product with a mask, no NaN in the gradient.
        own = logits.detach()  # mutate: equivalent unwrapped (of a difference from itself there is no gradient either way)
        return mean_squared_error(logits, target.where(~target.isnan(), own))  # mutate: equivalent swapped (symmetric)
