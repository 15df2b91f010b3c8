"""What a gradient meets on its way back."""

from __future__ import annotations

from torch import Tensor


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x` itself, whose gradient is multiplied by `factor`; a negative one reverses it (gradient reversal, arXiv:1409.7495)."""
    fixed = x.detach()
    return fixed + factor * (x - fixed)  # the difference is exactly 0, so the value is exactly that of x
