"""What a gradient meets on its way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x` itself, whose gradient is multiplied by `factor`; a negative one reverses it (gradient reversal, arXiv:1409.7495)."""
    fixed = x.detach()
    return fixed + factor * (x - fixed)  # the difference is exactly 0, so the value is exactly that of x


def not_absent(value: Tensor, *unread: Tensor) -> Tensor:
    """`value`, whose gradient by tensors that it does not depend on is 0 instead of absent; that costs no pass over them."""
    found: Tensor = _NotAbsent.apply(value, *unread)  # pyright: ignore[reportAssignmentType]
    return found


class _NotAbsent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, *unread: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.shapes = [x.shape for x in unread]
        return value.view_as(value)  # mutate: equivalent unwrapped (torch makes a view of what is handed on)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient, *(gradient.new_zeros(()).expand(shape) for shape in ctx.shapes)
