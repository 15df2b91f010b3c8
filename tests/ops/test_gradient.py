"""Scaled and reversed gradients."""

from __future__ import annotations

import pytest
import torch

from limbeck.ops.gradient import not_absent, scale_gradient


@pytest.mark.parametrize("factor", [-1.0, -0.3, 0.0, 2.5])
def test_the_value_stays_and_the_gradient_is_scaled(factor):
    x = torch.tensor([1.1, -2.7e-3, 3e8], requires_grad=True)
    y = scale_gradient(x, factor)
    assert torch.equal(y, x)
    y.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert x.grad.tolist() == pytest.approx([factor, 2 * factor, 3 * factor])  # pyright: ignore[reportOptionalMemberAccess]


def test_what_is_not_read_gets_the_gradient_0():
    x, first, second = (torch.ones(shape, requires_grad=True) for shape in ((2,), (2, 3), (4,)))
    value = not_absent(3 * x, first, second)
    assert value.tolist() == [3.0, 3.0]
    gradients = torch.autograd.grad((value * torch.tensor([1.0, 2.0])).sum(), (x, first, second))
    assert [gradient.tolist() for gradient in gradients] == [[3.0, 6.0], [[0.0] * 3] * 2, [0.0] * 4]
