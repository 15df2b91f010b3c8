"""Directions, similarities, distances and angles, with finite gradients where the maths has a corner."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .grams import inner_products
from .precision import widen, without_autocast


def unit(x: Tensor, *, dim: int = -1, order: int = 2) -> Tensor:
    """`x` divided by its length along `dim`; a zero vector has no direction: it stays zero and gets no gradient.

    The length is Euclidean, or with `order` 1 the sum of the absolute values.
    """
    x = widen(x)
    if order != 2:  # mutate: equivalent constant (both ways agree)
        length = torch.linalg.vector_norm(x, order, dim=dim, keepdim=True)
        return x / length.masked_fill(length == 0, math.inf)
    found: Tensor = _Unit.apply(x, dim)  # pyright: ignore[reportAssignmentType]
    return found


class _Unit(torch.autograd.Function):
    """With its gradient in closed form, which takes half the passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        found, scale = _directions(x, dim)
        ctx.save_for_backward(x, found, scale)
        ctx.dim = dim
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, found, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives
            found, scale = _directions(x, ctx.dim)
        along = (gradient * found).sum(ctx.dim, keepdim=True)
        return torch.addcmul(gradient, found, along, value=-1) * scale, None


def _directions(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """`x` over its length along `dim`, and the reciprocal of that; both 0 where that is 0."""
    if dim in (-1, x.ndim - 1):  # mutate: equivalent comparison, condition, constant, operator (both ways agree)
        length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
        length = length.masked_fill(length == 0, math.inf)
        return x / length, length.reciprocal()
    # Along another dimension torch's norm takes several times as long as the squares.
    squares = (x * x).sum(dim, keepdim=True)
    scale = squares.masked_fill(squares == 0, math.inf).rsqrt()
    return x * scale, scale


def length(x: Tensor, *, dim: int) -> Tensor:
    """Euclidean length along `dim`, without a gradient where it is 0; along a dimension that is not the last faster than torch's norm."""
    squares = (x * x).sum(dim)
    return squares.masked_fill(squares == 0, math.inf).sqrt().masked_fill(squares == 0, 0)


def cosines(first: Tensor, second: Tensor, *, dim: int = -1) -> Tensor:
    """Cosine of the angle between two tensors along `dim`; 0, without a gradient, where either is zero.

    The lengths are taken from squares, which is several times faster than a norm along a dimension that is not the last.
    """
    first, second = widen(first), widen(second)
    squares = [(x * x).sum(dim) for x in (first, second)]
    scale, other = [x.masked_fill(x == 0, math.inf).rsqrt() for x in squares]
    return (first * second).sum(dim) * scale * other


def gram(features: Tensor, rows: slice = slice(None)) -> Tensor:
    """Inner products of the examples `rows` with all, `(batch, ...)` to `(rows, batch)`; everything behind the batch is one vector."""
    vectors = widen(features).flatten(1)
    if rows.indices(len(vectors)) == (0, len(vectors), 1):  # mutate: equivalent constant, unwrapped (all rows are the whole)
        return inner_products(vectors)
    with without_autocast(vectors):
        return vectors[rows] @ vectors.T


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distances between the examples, `(batch, ...)` to `(batch, batch)`.

    Computed from differences, so that near neighbours do not cancel; coinciding examples get no gradient.
    """
    rows = widen(features).flatten(1)
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def squared_distances(points: Tensor, rows: slice) -> Tensor:
    """Squared distances of the points `rows` to all, `(points, channels)` to `(rows, points)`, up to rounding.

    They come from inner products, in float64 (where the device has it) because these cancel between near neighbours.
    """
    wide = points if points.device.type == "mps" else points.double()  # mutate: equivalent choice (the tests run on the CPU)
    squares = wide.square().sum(1)
    with without_autocast(wide):
        return (squares[rows, None] + squares - 2 * (wide[rows] @ wide.T)).to(points.dtype)


def corners(features: Tensor) -> tuple[Tensor, Tensor]:
    """What the angles between examples are made of, `(batch, ...)`; everything behind the batch is one vector.

    Returns:
        the inner products of the examples around their mean, in float64 (where the device has it) because differences of them are
        taken, and the reciprocal distances, 0 between coinciding examples; both `(batch, batch)`.
    """
    rows = widen(features).flatten(1)  # mutate: equivalent unwrapped (what follows does both, if not before the mean of mps)
    distances = pairwise_distances(rows)
    rows = rows if rows.device.type == "mps" else rows.double()  # mutate: equivalent choice (the tests run on the CPU)
    return gram(rows - rows.mean(0)), 1 / distances.masked_fill(distances == 0, math.inf)


def vertex_cosines(products: Tensor, reciprocals: Tensor, vertices: slice) -> Tensor:
    """Cosine of the angle at example j between examples i and k, without forming the differences of the examples.

    Args:
        products: inner products, as `corners` gives them.
        reciprocals: reciprocal distances, likewise.
        vertices: the examples j.

    Returns:
        `(vertices, batch, batch)`; 0 where i or k coincides with j.
    """
    to_vertex, lengths = products[vertices], products.diagonal()[vertices].unsqueeze(1)
    inner = products - to_vertex.unsqueeze(2) + (lengths - to_vertex).unsqueeze(1)
    arms = reciprocals[vertices]
    return inner.to(arms.dtype) * arms.unsqueeze(2) * arms.unsqueeze(1)
