r"""Cosine distance between the directions of student and teacher.

.. math:: 1 - \frac{\langle s, t \rangle}{\|s\| \, \|t\|}

On a map `(batch, channels, height, width)` the vectors are those of the channels at each position, on `(batch, tokens, dim)`
those of the tokens; the mean over the positions is taken.

When to use: the direction of embeddings or hidden states matters and their length does not, as between transformers.

Cost: of order of the number of elements; no parameters.

Reference: Sanh et al., "DistilBERT, a distilled version of BERT", 2019, arXiv:1910.01108, section 3 (there on hidden states).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ..ops.geometry import cosines
from ..types import Needs, Signals
from ._padding import kept_mean, kept_tokens
from .base import Loss, agree, pairs


def cosine_distance(student: Tensor, teacher: Tensor, kept: Tensor | None = None) -> Tensor:
    """Mean over the positions, two tensors `(batch, ...)` to `(batch,)`; the channels are dimension 1 of a map, else the last.

    Args:
        student: logits or a feature.
        teacher: of the same shape.
        kept: which tokens count, `(batch, tokens)`, bool; None for all.
    """
    student, teacher = agree(student, teacher)
    dim = 1 if student.ndim > 3 else -1
    return kept_mean(1 - cosines(student, teacher, dim=dim), kept)  # mutate: equivalent swapped (symmetric)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Cosine(Loss):
    """Matches directions and leaves lengths free, on logits or on features where the term names layers."""

    exempt: ClassVar = {"shift": "adding a constant to a vector turns it"}

    @property
    def needs(self) -> Needs:
        return Needs(logits=True, features="optional", padding=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = pairs(student, teacher)[0]
        return cosine_distance(ours, theirs, kept_tokens(student, ours))
