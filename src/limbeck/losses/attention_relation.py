r"""Self-attention relations: how tokens relate in queries, keys and values.

.. math:: \frac{1}{A N} \sum_{a,i} KL\left( softmax(R^t_{ai}) \,\|\, softmax(R^s_{ai}) \right), \qquad
          R_a = \frac{X_a Y_a^T}{\sqrt{d}}

over the A heads and the N tokens i that are no padding, where :math:`X_a` and :math:`Y_a` are what head a has of the output of the
query, key or value layer, d channels wide. With `relation: pair` the layers of a term come two by two, X and then Y: queries and keys give
the attention itself (MiniLM's attention term, TinyBERT's with `form: mse`, which compares the scores R). With `relation: self` each layer
is compared with itself, Y = X: values alone are MiniLM's value relation; queries, keys and values are MiniLMv2. The values of several
relations and layers are summed.

The number of heads is the same on both sides, their width need not be: MiniLMv2 divides both models into as many relation heads as it
likes, while attention proper has the heads that the model has. As the scores are made anew from queries and keys, it does not matter which
attention kernel the models use. Relative positions and rotations that a model adds to its scores are not seen.

When to use: encoders of unlike width (no adapter is needed), where one well-chosen layer of the teacher is to be learnt by the student's
last (`layers: top`); before or beside the logits.

Cost: of order b N^2 d for every relation; b A N^2 values are held, but no parameters.

Reference: Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers", NeurIPS 2020,
arXiv:2002.10957, equations 6 to 10; Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
Transformers", ACL Findings 2021, arXiv:2012.15828, section 3; Jiao et al., "TinyBERT", EMNLP Findings 2020, arXiv:1909.10351, equation 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..errors import ShapeMismatch, SignalMissing
from ..ops.divergence import divergence, log_softmax
from ..ops.layouts import as_positions
from ..ops.precision import without_autocast
from ..types import Needs, PositiveInt, Signals
from ._padding import kept_tokens, leaving_out, pair_mean, query_mean
from .base import Loss, agree, pairs


def relation_scores(first: Tensor, second: Tensor, *, heads: int) -> Tensor:
    """Scaled inner products of tokens, `(batch, tokens, channels)` twice to `(batch, heads, tokens, tokens)`.

    Raises:
        ShapeMismatch: where the channels cannot be divided among the heads, or the two differ in shape.
    """
    first, second = agree(first, second)
    channels = first.shape[-1]
    if channels % heads:
        raise ShapeMismatch(f"{channels} channels cannot be divided among {heads} heads; choose another number of heads.")
    first, second = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (first, second))
    with without_autocast(first):
        return first @ second.mT / math.sqrt(channels // heads)


def relation_divergence(student: Tensor, teacher: Tensor, kept: Tensor | None) -> Tensor:
    """KL of every query's distribution over the keys that are kept, of scores `(batch, heads, tokens, tokens)` to `(batch,)`."""
    student, teacher = agree(student, teacher)
    if kept is not None:
        student, teacher = leaving_out(student, kept), leaving_out(teacher, kept)
    values = divergence(log_softmax(teacher), log_softmax(student), kind="forward", weight=0)  # mutate: equivalent constant (has none)
    return query_mean(values, kept)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class AttentionRelation(Loss):
    """Compares how the tokens of a text relate in the query, key and value layers of both models."""

    heads: PositiveInt = 1
    """Number of heads A into which both are divided; for `relation: pair` that of the models."""
    relation: Literal["self", "pair"] = "self"
    """Each layer with itself, or the layers two by two, such as queries with keys."""
    form: Literal["kl", "mse"] = "kl"
    """The divergence of what the softmax makes of the scores, or the mean squared difference of the scores."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="space", padding=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        layers = pairs(student, teacher)
        width = 2 if self.relation == "pair" else 1
        if len(layers) % width:
            raise SignalMissing(f"relation: pair takes layers two by two, such as queries and keys; found {len(layers)}.")
        kept = kept_tokens(student, layers[0][0])  # mutate: equivalent constant (all of them have the same tokens)
        found: list[Tensor] = []
        for i in range(0, len(layers), width):
            both = zip(layers[i], layers[i + width - 1], strict=True)
            ours, theirs = (relation_scores(as_positions(x).mT, as_positions(y).mT, heads=self.heads) for x, y in both)
            values = relation_divergence(ours, theirs, kept) if self.form == "kl" else pair_mean((ours - theirs).square(), kept)
            found.append(values)
        return torch.stack(found).sum(0)
