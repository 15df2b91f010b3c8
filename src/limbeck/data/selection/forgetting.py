"""Keeps the examples that a model forgets most often while it is trained.

An example is forgotten when the model is right after one epoch and wrong after the next. One that is never learnt counts as forgotten once
an epoch, which is more often than any other.

Reference: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019, arXiv:1812.05159
(counted at every visit of an example; here after every epoch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from .base import Evidence, Selection, known, need_labels


def forgotten(history: Tensor) -> Tensor:
    """How often each example was forgotten, `(examples,)`, from `(epochs, examples)`, bool."""
    events = (history[:-1] & ~history[1:]).sum(0)
    return torch.where(history.any(0), events, torch.full_like(events, len(history)))


@final
@dataclass(frozen=True, kw_only=True)
class Forgetting(Selection):
    """Number of times that an example is forgotten; needs `epochs`, for which a model like the student is trained."""

    reads: ClassVar = ("labels", "history")

    def scores(self, evidence: Evidence) -> Tensor:
        """As the class says, `(examples,)`, float64."""
        need_labels(evidence, "forgetting")
        return forgotten(known(evidence.history, "the history")).double()
