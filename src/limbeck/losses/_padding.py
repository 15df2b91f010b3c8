"""Leaves the padding of texts out of losses on tokens: what stands there is never read, and no mean counts it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.reduce import example_mean
from ..types import PADDING, Signals


def kept_tokens(student: Signals, feature: Tensor) -> Tensor | None:
    """Which tokens of a feature are no padding, `(batch, tokens)`, bool; None where nothing is padded or it has no tokens.

    Args:
        student: whose `extra` holds the mask of the batch, where it is of texts.
        feature: tokens `(batch, tokens, channels)`; for anything else there is no mask.

    Raises:
        ShapeMismatch: where the layer has another number of tokens than the texts.
    """
    mask = student.extra.get(PADDING)
    if mask is None or feature.ndim != 3:
        return None
    if mask.shape != feature.shape[:2]:
        raise ShapeMismatch(
            f"the texts have {mask.shape[1]} tokens and the layer {feature.shape[1]}, so it is not known which of them are padding; "
            "tap a layer that has one value a token, or one vector a text."
        )
    return mask != 0


def kept_keys(student: Signals, scores: Tensor) -> Tensor | None:
    """Which keys (and queries) of attention scores `(batch, heads, tokens, tokens)` are no padding; None where no mask is known.

    Raises:
        ShapeMismatch: where the scores are of another number of tokens than the texts.
    """
    return kept_tokens(student, scores[:, 0])


def leaving_out(scores: Tensor, kept: Tensor) -> Tensor:
    """Scores `(batch, heads, tokens, tokens)` with minus infinity at the keys that are padding, before a softmax."""
    # A text without any token has no distribution; it is left out with its queries.
    absent = ~(kept | ~kept.any(1, keepdim=True))[:, None, None]
    return scores.masked_fill(absent.to(scores.device), -math.inf)  # mutate: equivalent unwrapped (the tests have one device)


def kept_mean(values: Tensor, kept: Tensor | None) -> Tensor:
    """Mean over the tokens that are kept (all for None) and everything behind them, `(batch, tokens, ...)` to `(batch,)`."""
    return example_mean(values if kept is None else without_padding(values, kept))


def without_padding(values: Tensor, kept: Tensor | None) -> Tensor:
    """The values with 0 at the padding and the others so much larger that the plain mean is that of the others."""
    if kept is None:
        return values
    kept = kept.to(values.device)  # mutate: equivalent (the tests have one device)
    share = kept.shape[1] / kept.sum(1).clamp_min(1)
    shape = (*kept.shape, *[1] * (values.ndim - 2))
    # What stands at the padding may be infinite, so it is not multiplied by 0.
    return torch.where(kept.view(shape), values, torch.zeros_like(values)) * share.view(-1, *[1] * (values.ndim - 1))


def pair_mean(values: Tensor, kept: Tensor | None) -> Tensor:
    """Mean over pairs of tokens of which both are kept, `(batch, [heads], tokens, tokens)` to `(batch,)`."""
    if kept is None:
        return example_mean(values)
    both = kept[:, :, None] & kept[:, None, :]
    both = both if values.ndim == 3 else both[:, None]
    total = torch.where(both, values, torch.zeros_like(values)).flatten(1).sum(1)
    heads = 1 if values.ndim == 3 else values.shape[1]
    return total / (heads * both.flatten(1).sum(1).clamp_min(1))


def query_mean(values: Tensor, kept: Tensor | None) -> Tensor:
    """Mean over the queries that are kept, `(batch, [heads], queries)` to `(batch,)`."""
    return kept_mean(values if values.ndim == 2 else values.mean(1), kept)
