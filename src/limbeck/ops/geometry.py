"""Directions, similarities, distances and angles, with finite gradients where the maths has a corner."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .precision import widen, without_autocast


def unit(x: Tensor, *, dim: int = -1) -> Tensor:
    """`x` divided by its Euclidean length along `dim`; a zero vector has no direction: it stays zero and gets no gradient."""
    x = widen(x)
    length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x / length.masked_fill(length == 0, math.inf)


def gram(features: Tensor) -> Tensor:
    """Inner products between the examples, `(batch, ...)` to `(batch, batch)`; everything behind the batch is one vector."""
    rows = widen(features).flatten(1)
    with without_autocast(rows):
        return rows @ rows.T


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distances between the examples, `(batch, ...)` to `(batch, batch)`.

    Computed from differences, so that near neighbours do not cancel; coinciding examples get no gradient.
    """
    rows = widen(features).flatten(1)
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def vertex_cosines(features: Tensor, vertices: slice) -> Tensor:
    """Cosine of the angle at example j between examples i and k.

    Args:
        features: `(batch, ...)`; everything behind the batch is one vector.
        vertices: the examples j.

    Returns:
        `(vertices, batch, batch)`; 0 where i or k coincides with j.
    """
    rows = widen(features).flatten(1)
    arms = unit(rows[None, :, :] - rows[vertices, None, :])
    with without_autocast(arms):
        return arms @ arms.transpose(1, 2)
