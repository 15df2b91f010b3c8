"""Values whose gradient is known in closed form, and is made in the forward pass from what is there anyway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Formula = Callable[..., tuple[Tensor, Tensor]]
"""From `x` and constants, a value whose shape broadcasts to that of `x`, and its slope: how much it changes with each element of `x`.

It is made of operations that torch can differentiate, and changes nothing that it is given.
"""


def closed_form(formula: Formula, x: Tensor, *constants: Any) -> Tensor:
    """The value of a formula, whose slope is multiplied by what comes back; that is one pass over memory, whatever the formula.

    It pays where x is large: the way through Python costs as much as some ten operations on small tensors. Second derivatives, and
    gradients by constants that learn, come from the formula itself.
    """
    if any(isinstance(constant, Tensor) and constant.requires_grad for constant in constants):
        return formula(x, *constants)[0]
    found: Tensor = _ClosedForm.apply(formula, x, *constants)  # pyright: ignore[reportAssignmentType]
    return found


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Formula, x: Tensor, *constants: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        value, slope = formula(x, *constants)
        ctx.save_for_backward(slope, x, *(constant for constant in constants if isinstance(constant, Tensor)))
        ctx.formula, ctx.others = formula, constants  # in their order; saved as well, so that a change in place is noticed
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        slope, x, *_ = ctx.saved_tensors
        if torch.is_grad_enabled():
            slope = ctx.formula(x, *ctx.others)[1]
        return None, slope * gradient, *[None for _ in ctx.others]
