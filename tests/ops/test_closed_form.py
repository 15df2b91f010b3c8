"""A formula with its slope: both derivatives, constants that learn, and that the slope is not computed again without need."""

from __future__ import annotations

import torch

from limbeck.ops.closed_form import closed_form

CALLS: list[int] = []


def cubes(x, weights, power):
    """The weighted sum of x to the power, row by row."""
    CALLS.append(power)
    return (weights * x**power).sum(1, keepdim=True), weights * power * x ** (power - 1)


def made(*, learned=False):
    torch.manual_seed(0)
    x, weights = torch.randn(2, 3, dtype=torch.float64, requires_grad=True), torch.rand(2, 3, dtype=torch.float64)
    return x, weights.requires_grad_(learned)


def test_value_and_gradient_by_hand():
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], requires_grad=True)
    value = closed_form(cubes, x, torch.tensor([[1.0, 0.5], [2.0, 1.0]]), 3)
    assert value.tolist() == [[5.0], [53.0]]
    (found,) = torch.autograd.grad((value * torch.tensor([[1.0], [10.0]])).sum(), x)
    assert found.tolist() == [[3.0, 6.0], [540.0, 30.0]]


def test_the_formula_is_used_once():
    x, weights = made()
    CALLS.clear()
    closed_form(cubes, x, weights, 3).sum().backward()
    assert CALLS == [3]


def test_second_derivatives():
    x, weights = made()
    assert torch.autograd.gradcheck(lambda x: closed_form(cubes, x, weights, 3), x)
    assert torch.autograd.gradgradcheck(lambda x: closed_form(cubes, x, weights, 3), x)


def test_constants_may_learn():
    x, weights = made(learned=True)
    assert torch.equal(closed_form(cubes, x, weights, 3), closed_form(cubes, x, weights.detach(), 3))
    assert torch.autograd.gradcheck(lambda x, w: closed_form(cubes, x, w, 3), (x, weights))
    assert torch.autograd.gradgradcheck(lambda x, w: closed_form(cubes, x, w, 3), (x, weights))


def test_only_constants_that_learn_keep_the_formula_in_the_graph():
    for learned in (False, True):
        x, weights = made(learned=learned)
        value = closed_form(cubes, x, weights, 3)
        assert value.grad_fn is not None
        assert ("ClosedForm" in value.grad_fn.name()) is not learned
