r"""Keeps the examples on which the model errs most.

.. math:: \lVert softmax(z) - onehot(y) \rVert_2

Reference: Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021, arXiv:2107.07075 (of a model in the first epochs of its
training: give `epochs`; of a finished teacher the order is another).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch.nn.functional as F
from torch import Tensor

from .base import Evidence, Selection, known, need_labels


def el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """Length of the error vector, `(examples,)`; between 0 and the root of 2."""
    return (logits.softmax(1) - F.one_hot(labels, logits.shape[1])).norm(dim=1)


@final
@dataclass(frozen=True, kw_only=True)
class EL2N(Selection):
    """Length of the difference between the model's probabilities and the label."""

    reads: ClassVar = ("labels", "logits")

    def scores(self, evidence: Evidence) -> Tensor:
        """As the class says, `(examples,)`, float64."""
        return el2n(known(evidence.logits, "the logits"), need_labels(evidence, "el2n"))
