r"""Keeps the examples of which a large model knows more than a small one: difference sampling.

.. math:: s(x) = \frac{1}{|x|} \sum_t \log p_T(x_t) - \log p_{ref}(x_t)

the mean over the trained tokens of how much better the teacher predicts them than a small reference model that was trained on the data as
they are. Easy texts, which both know, score near 0; noise, which a teacher of good texts does not expect, below it; rich texts above. The
scores are computed once and the choice serves students of any architecture. For classes it is the difference of the cross-entropies of
the labels.

Reference: Gu et al., "MiniPLM: Knowledge Distillation for Pre-Training Language Models", 2024, arXiv:2410.17215, section 2.2 (half of the
texts are kept).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from .base import Evidence, Selection, known


def loss_difference(teacher: Tensor, reference: Tensor) -> Tensor:
    """By how much the reference's loss is above the teacher's, two tensors `(examples,)` to `(examples,)`."""
    return reference - teacher


@final
@dataclass(frozen=True, kw_only=True)
class Difference(Selection):
    """Loss of a small reference model minus that of the teacher."""

    reads: ClassVar = ("labels", "losses")
    judges: ClassVar = ("reference",)
    taught: ClassVar[bool] = True

    reference: str = "reference"
    """Name of the small model, one of the recipe's `models` or teachers, which an earlier stage trains."""

    def scores(self, evidence: Evidence) -> Tensor:
        """As the class says, `(examples,)`, float64."""
        return loss_difference(*known(evidence.losses, "the losses"))
