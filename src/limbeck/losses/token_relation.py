r"""Token relations: tokens of an example relate to each other as the teacher's do.

.. math:: 1 - \cos(R^s, R^t), \qquad R = Y Y^T

where Y has a row for every token of the example and the cosine is that of the matrices as vectors. The widths of student and teacher may
differ, the tokens must be the same. This is the relation term of LLaVA-KD on visual tokens; its terms on response and visual tokens are
divergences of logits (`kd` with `temperature: 1`), with weights 1, 1 and 0.5. The released code holds no such loss; whether tokens are
first divided by their length is left open there (`normalise`).

When to use: transformers of unlike width that read the same patches, where what goes together within an image counts.

Cost: of order b N d min(N, d) for N tokens of d channels; no matrix is larger than the smaller of N x N and d x d. No parameters.

Reference: Cai et al., "LLaVA-KD: A Framework of Distilling Multimodal Large Language Models", ICCV 2025, arXiv:2410.16236, section 3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.geometry import unit
from ..ops.grams import inner_products
from ..ops.layouts import as_positions
from ..ops.precision import without_autocast
from ..types import Needs, Signals
from ._padding import kept_tokens
from .base import Loss


def relation_gap(student: Tensor, teacher: Tensor, *, normalise: bool) -> Tensor:
    """One minus the cosine of the tokens' inner products.

    Args:
        student: tokens `(batch, tokens, channels)`, or a map, whose positions are tokens.
        teacher: likewise, of the same number of tokens.
        normalise: whether every token is first divided by its length.

    Returns:
        `(batch,)`.

    Raises:
        ShapeMismatch: where the numbers of tokens differ.
    """
    ours, theirs = _tokens(student, normalise), _tokens(teacher, normalise)
    if ours.shape[1] != theirs.shape[1]:
        raise ShapeMismatch(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} must have as many tokens here; "
            "tap layers with the same tokens."
        )
    with without_autocast(ours):
        widest = max(ours.shape[2], theirs.shape[2])
        if ours.shape[1] <= widest:  # mutate: equivalent comparison (between equal sizes, either way will do)
            first, second = (unit(inner_products(y).flatten(1)) for y in (ours, theirs))
            return (first - second).square().sum(1) / 2
        # <A A^T, B B^T> = |A^T B|^2 without the tokens' own products.
        products = inner_products(ours.mT), inner_products(theirs.mT), ours.mT @ theirs
        own, other, both = (x.square().sum((1, 2)) for x in products)  # mutate: equivalent function (their sizes cancel)
    squares = own * other
    present = 0.5 * (own > 0) + 0.5 * (other > 0)
    return present - both * squares.masked_fill(squares == 0, math.inf).rsqrt()


def _tokens(feature: Tensor, normalise: bool) -> Tensor:
    """`(batch, tokens, channels)`, all of one example of length 1 together, so that no product overflows."""
    tokens = as_positions(feature).mT
    tokens = unit(tokens) if normalise else tokens
    return unit(tokens.flatten(1)).view_as(tokens)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class TokenRelation(Loss):
    """Compares which tokens of an example are alike; the width of the tokens does not matter."""

    normalise: bool = False
    """Whether every token is first divided by its length."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="space", padding=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        kept = kept_tokens(student, student.feature)
        ours, theirs = (x if kept is None else x.masked_fill(~kept.unsqueeze(-1), 0) for x in (student.feature, teacher.feature))
        return relation_gap(ours, theirs, normalise=self.normalise)
