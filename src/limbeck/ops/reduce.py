"""Reductions that leave the batch alone, and means over the tokens that count."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def example_mean(x: Tensor) -> Tensor:
    """Mean over everything behind the batch, `(batch, ...)` to `(batch,)`."""
    return x.flatten(1).mean(1) if x.ndim > 1 else x


def token_mean(
    values: Tensor, counted: Tensor | None = None, *, over: Literal["tokens", "sequences"] = "tokens", divisor: float | None = None
) -> Tensor:
    """Mean of one value a token over the tokens that count; what stands at the others is not read, be it infinite.

    Args:
        values: `(batch, tokens)`.
        counted: which tokens count, of the same shape (nonzero or True); None for all.
        over: all tokens alike, or all sequences alike, each by the mean of its tokens; a sequence without a token that counts is left out.
        divisor: what the sum is divided by instead of the number of tokens, such as that of a whole update.

    Returns:
        A scalar; 0 where nothing counts.
    """
    mask = torch.ones_like(values, dtype=torch.bool) if counted is None else counted != 0
    values = values.masked_fill(~mask, 0)
    if over == "sequences":
        tokens = mask.sum(1)
        return (values.sum(1) / tokens.clamp_min(1)).sum() / (tokens > 0).sum().clamp_min(1)
    return values.sum() / (mask.sum().clamp_min(1) if divisor is None else divisor)
