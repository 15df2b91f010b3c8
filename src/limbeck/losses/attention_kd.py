r"""Attention distillation: the student looks where the teacher looks.

.. math:: \frac{1}{H N^2} \sum_{h,i,j} \left( A^s_{hij} - A^t_{hij} \right)^2 \qquad \text{or} \qquad
          \frac{1}{H N} \sum_{h,i} KL\left( softmax(A^t_{hi}) \,\|\, softmax(A^s_{hi}) \right)

over H heads, N queries i and keys j, where A are the scores before the softmax (`form: mse`, `form: kl`). With `heads: mean` or `sum` the
heads of each model are first made one map, so that no head has to stand for another. The loss gives the
mean over the elements, or over the queries, of each example; the padding of texts is left out, as key and as query.

In TextBrewer's code entries of the scores at or below -0.001 count as masked: as 0, and without probability for the teacher, which also
takes ordinary negative scores out of the sum (`variant: textbrewer`).

When to use: transformers of the same number of heads (or with `heads: mean`), over layers that were matched one by one; usually beside
hidden states and before the logits' turn.

Cost: of order of the number of scores, b H N^2; no parameters.

Reference: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", EMNLP Findings 2020, arXiv:1909.10351,
equation 7; the forms of Yang et al., "TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language Processing", ACL
2020, arXiv:2002.12620.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..ops.divergence import Divergence, divergence, log_softmax
from ..ops.precision import widen
from ..ops.reduce import example_mean
from ..ops.squares import squared_distance
from ..types import Needs, Signals
from ._padding import kept_keys, leaving_out, query_mean
from .base import Loss, agree, pairs

Heads = Literal["each", "mean", "sum"]


def one_map(scores: Tensor, heads: Heads) -> Tensor:
    """`(batch, heads, queries, keys)` as they are, or their mean or sum over the heads; what has no heads stays as it is."""
    scores = widen(scores)
    if heads == "each" or scores.ndim < 4:
        return scores
    return scores.mean(1) if heads == "mean" else scores.sum(1)


def attention_errors(
    student: Tensor, teacher: Tensor, *, heads: Heads, least: float, counted: Tensor | None
) -> tuple[Tensor, Tensor | int]:
    """Sum of the squared differences of an example's scores, `(batch, [heads], queries, keys)` to `(batch,)`, and how many they are.

    A score not above `least` counts as 0; `counted`, `(batch, queries, keys)`, tells which are summed up, None all.
    """
    ours, theirs = agree(one_map(student, heads), one_map(teacher, heads))
    if counted is None:
        return squared_distance(ours, theirs, above=least, counted=None), ours[0].numel()
    maps = ours.shape[1] if ours.ndim == 4 else 1
    mask = counted.unsqueeze(1) if ours.ndim == 4 else counted
    return squared_distance(ours, theirs, above=least, counted=mask), maps * counted.flatten(1).sum(1)


def attention_divergence(student: Tensor, teacher: Tensor, *, heads: Heads, least: float, kind: Divergence, keys: Tensor | None) -> Tensor:
    """Divergence of every query, `(batch, [heads], queries, keys)` to `(batch, [heads], queries)`.

    Keys where the teacher's score is not above `least`, or that `keys` (which broadcasts to the scores) leaves out, do not count, and
    nothing is normalised again.
    """
    ours, theirs = agree(one_map(student, heads), one_map(teacher, heads))
    absent = theirs <= least if keys is None else (keys == 0) | (theirs <= least)
    log_p = log_softmax(theirs).masked_fill(absent, -math.inf)
    return divergence(log_p, log_softmax(ours), kind=kind, weight=0)  # mutate: equivalent constant (for kinds without one)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class AttentionKD(Loss):
    """Compares the attention scores of one or more layers, their mean over the layers."""

    form: Literal["mse", "kl"] = "mse"
    """What is compared: the scores, or the attention that follows from them."""
    heads: Heads = "each"
    """Head by head, or all heads of a model as one map."""
    variant: Literal["paper", "textbrewer"] = "paper"
    """All scores, or without those that TextBrewer takes for masked."""

    @property
    def needs(self) -> Needs:
        return Needs(features="many", match="full", padding=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        return torch.stack([self._layer(student, *layer) for layer in pairs(student, teacher)]).mean(0)

    def _layer(self, student: Signals, ours: Tensor, theirs: Tensor) -> Tensor:
        least = -math.inf if self.variant == "paper" else -1e-3
        kept = kept_keys(student, ours)
        if self.form == "mse":
            pairs_kept = None if kept is None else kept[:, :, None] & kept[:, None]
            counted = pairs_kept if pairs_kept is None else pairs_kept.to(ours.device)  # mutate: equivalent unwrapped (one device)
            total, count = attention_errors(ours, theirs, heads=self.heads, least=least, counted=counted)
            return total / (count if isinstance(count, int) else count.clamp_min(1))
        if kept is not None:
            ours, theirs = (leaving_out(scores, kept) for scores in (ours, theirs))
        values = attention_divergence(ours, theirs, heads=self.heads, least=least, kind="forward", keys=None)
        return example_mean(values) if kept is None else query_mean(values, kept)
