"""Embeddings of length 1, and a memory of one for every example of a data set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.geometry import unit
from ..ops.layouts import pooled
from ..ops.precision import without_autocast
from ..ops.slices import in_slices

_DEAR = 8
"""How many products with vectors as they lie cost as much as one with a vector that must be looked up."""


class UnitLinear(nn.Linear):
    """A linear embedding of length 1 of features, which are averaged over positions first."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """Any layout, to `(batch, dim)`."""
        vectors = pooled(input)
        with without_autocast(vectors):
            return unit(super().forward(vectors))


class Memory(nn.Module):
    """Vectors of length 1 that follow what a model says of each example; a buffer, so that it is saved with every checkpoint."""

    vectors: Tensor

    def __init__(self, examples: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", unit(torch.randn(examples, dim)))

    def products(self, own: Tensor, rows: Tensor, *, chunk: int) -> Tensor:
        """Inner product of each of `own`, `(batch, dim)`, with the vectors at its `rows`, `(batch, n)`.

        At most `chunk` of the batch are compared at once: with all vectors, or where these are many more than n, with copies of the
        wanted ones.
        """
        vectors, copies = self.vectors, self._copies(rows)

        def part(own: Tensor, batch: slice) -> Tensor:
            with without_autocast(own):
                if not copies:
                    return (own[batch] @ vectors.T).gather(1, rows[batch])
                wanted = vectors.index_select(0, rows[batch].flatten()).unflatten(0, (-1, rows.shape[1]))
                return torch.bmm(wanted, own[batch].unsqueeze(2)).squeeze(2)

        return torch.cat(in_slices(part, own, size=len(own), chunk=chunk))

    @torch.no_grad()
    def follow(self, values: Tensor, rows: Tensor, *, momentum: float, chunk: int) -> None:
        """Moves the vectors at the first of each of `rows` towards `values`, `(batch, dim)`, after the `products` of these rows."""
        index = rows[:, 0]
        moved = unit(momentum * self.vectors[index] + (1 - momentum) * values)
        # The backward pass needs the vectors as they were, unless all that it needs was copied.
        kept = self._copies(rows) and len(rows) <= chunk
        self.vectors = self.vectors.index_copy_(0, index, moved) if kept else self.vectors.index_copy(0, index, moved)

    def _copies(self, rows: Tensor) -> bool:
        return len(self.vectors) > _DEAR * rows.shape[1]
