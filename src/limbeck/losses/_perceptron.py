"""A small network that losses learn on top of a feature."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from ..ops.layouts import pooled
from ..ops.precision import without_autocast


class Perceptron(nn.Sequential):
    """Linear layers of the given sizes with ReLU between them, on features that are averaged over positions first."""

    def __init__(self, *sizes: int) -> None:
        layers = [layer for inner, outer in pairwise(sizes) for layer in (nn.Linear(inner, outer), nn.ReLU())]
        super().__init__(*layers[:-1])

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """A feature of any layout, to `(batch, last size)`."""
        vectors = pooled(input)
        with without_autocast(vectors):
            return super().forward(vectors)
