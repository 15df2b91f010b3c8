"""Telling each example's own partner from those of the others of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from .slices import in_slices


def pairing_entropy(first: Tensor, second: Tensor, *, temperature: float, chunk: int) -> Tensor:
    r"""Mean cross-entropy of finding the partner of each row by inner products (InfoNCE in one direction).

    Args:
        first: `(batch, channels)`.
        second: of the same shape; row i is the partner of row i.
        temperature: softmax temperature of the inner products.
        chunk: number of rows of `first` that are compared with all of `second` at once; it does not change the value.

    Returns:
        A scalar.
    """

    def part(first: Tensor, second: Tensor, rows: slice) -> Tensor:
        scores = first[rows] @ second.mT / temperature
        return (scores.logsumexp(1) - scores.diagonal(rows.start)).sum()

    parts = in_slices(part, first, second, size=len(first), chunk=chunk)
    return torch.stack(parts).sum() / len(first)
