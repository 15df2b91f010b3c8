"""Scaled and reversed gradients."""

from __future__ import annotations

import pytest
import torch

from limbeck.ops.gradient import scale_gradient


@pytest.mark.parametrize("factor", [-1.0, -0.3, 0.0, 2.5])
def test_the_value_stays_and_the_gradient_is_scaled(factor):
    x = torch.tensor([1.1, -2.7e-3, 3e8], requires_grad=True)
    y = scale_gradient(x, factor)
    assert torch.equal(y, x)
    y.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert x.grad.tolist() == pytest.approx([factor, 2 * factor, 3 * factor])  # pyright: ignore[reportOptionalMemberAccess]
