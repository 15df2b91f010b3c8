"""Squared differences of large tensors, summed up example by example without being kept."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def squared_distance(x: Tensor, y: Tensor, *, above: float, counted: Tensor | None) -> Tensor:
    """Sum of the squared differences, two tensors `(batch, ...)` to `(batch,)`; no gradient reaches `y`.

    Args:
        x: in float32 or wider.
        y: of the same shape.
        above: an element that is not above it counts as 0; with minus infinity those are the elements of minus infinity.
        counted: bool, which broadcasts to the shape; False where a difference is not read, whatever stands there. None for all.
    """
    found: Tensor = _SquaredDistance.apply(x, y, above, counted)  # pyright: ignore[reportAssignmentType]
    return found


def mean_square(x: Tensor, y: Tensor) -> Tensor:
    """Mean of the squared differences, two tensors `(batch, ...)` to `(batch,)`, of tokens `(batch, tokens, ...)` to `(batch, tokens)`.

    Args:
        x: in float32 or wider, of two dimensions or more.
        y: of the same shape; its precision may be another.
    """
    first = 2 if x.ndim == 3 else 1
    found: Any = _MeanSquare.apply(x, y, first)  # mutate: equivalent swapped (symmetric)
    return found


class _MeanSquare(torch.autograd.Function):
    """Keeps the differences, so that the way back is one pass over them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, first: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        gap = x - y
        count = math.prod(x.shape[first:])
        ctx.save_for_backward(x, y, gap)
        ctx.factor = 2 / count
        # A norm reads once and keeps nothing, unlike a sum of squares.
        return torch.linalg.vector_norm(gap, dim=tuple(range(first, x.ndim))).square_().div_(count)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, gap = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives
            gap = x - y
        rate = (gradient * ctx.factor).view(*gradient.shape, *[1] * (x.ndim - gradient.ndim))
        slope = gap * rate
        return slope, -slope if ctx.needs_input_grad[1] else None, None


class _SquaredDistance(torch.autograd.Function):
    """With its gradient in closed form, so that one tensor of differences is all that is held: passes over memory are what it costs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, above: float, counted: Tensor | None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        gap = F.threshold(x, above, 0).sub_(F.threshold(y, above, 0))
        if counted is not None:
            gap.masked_fill_(~counted, 0)
        ctx.save_for_backward(gap, x)
        ctx.above = above
        flat = gap.flatten(1)
        return torch.linalg.vecdot(flat, flat)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gap, x = ctx.saved_tensors
        rate = (2 * gradient).view(-1, *[1] * (gap.ndim - 1))
        return torch.ops.aten.threshold_backward(gap * rate, x, ctx.above), None, None, None
