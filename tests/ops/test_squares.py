"""Summed squares: by hand, what counts as 0, what is not read, and the gradient."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.squares import mean_square, squared_distance

X = torch.tensor([[[1.0, 2.0], [3.0, -4.0]], [[0.0, 5.0], [-math.inf, 1.0]]])
Y = torch.tensor([[[0.0, 4.0], [3.0, 1.0]], [[2.0, -math.inf], [-math.inf, 1.0]]])


def test_by_hand():
    x = X.clone().requires_grad_()
    value = squared_distance(x, Y, above=-math.inf, counted=None)
    assert value.tolist() == [1 + 4 + 25, 4 + 25]
    (found,) = torch.autograd.grad((value * torch.tensor([1.0, 3.0])).sum(), x)
    assert found.tolist() == [[[2, -4], [0, -10]], [[-12, 30], [0, 0]]]
    assert x.tolist() == X.tolist()


def test_what_is_not_above_counts_as_0():
    x = X.clone().requires_grad_()
    value = squared_distance(x, Y, above=1, counted=None)
    assert value.tolist() == [0 + 4 + 0 + 0, 4 + 25]
    (found,) = torch.autograd.grad(value.sum(), x)
    assert found.tolist() == [[[0, -4], [0, 0]], [[0, 10], [0, 0]]]


def test_what_is_not_counted_is_not_read():
    x, y = X.clone(), Y.clone()
    x[0, 0, 0], y[0, 0, 1] = math.nan, math.inf
    assert squared_distance(x, y, above=-math.inf, counted=None).isnan().tolist() == [True, False]
    x.requires_grad_()
    counted = torch.tensor([[[False, False], [True, True]], [[True, True], [False, True]]])
    value = squared_distance(x, y, above=-math.inf, counted=counted)
    assert value.tolist() == [25, 29]
    (found,) = torch.autograd.grad(value.sum(), x)
    assert found.tolist() == [[[0, 0], [0, -10]], [[-4, 10], [0, 0]]]


def test_mean_by_hand():
    x, y = torch.tensor([[1.0, 2.0], [0.0, 5.0]], requires_grad=True), torch.tensor([[0.0, 4.0], [3.0, 1.0]], requires_grad=True)
    value = mean_square(x, y)
    assert value.tolist() == [2.5, 12.5]
    ours, theirs = torch.autograd.grad((value * torch.tensor([1.0, 3.0])).sum(), (x, y))
    assert ours.tolist() == [[1.0, -2.0], [-9.0, 12.0]]
    assert theirs.tolist() == (-ours).tolist()


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2), (2, 3, 2, 2), (2, 1, 2, 1, 2)])
def test_mean_has_its_gradients(shape):
    torch.manual_seed(0)
    x, y = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert mean_square(x, y).shape == (shape[:2] if len(shape) == 3 else shape[:1])
    assert torch.autograd.gradcheck(mean_square, (x, y))
    assert torch.autograd.gradcheck(lambda x: mean_square(x, y.detach()), x)
    assert torch.autograd.gradgradcheck(mean_square, (x, y))
    once, twice = (torch.autograd.grad(mean_square(x, y).sum(), (x, y), create_graph=again) for again in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))
    assert torch.autograd.gradgradcheck(mean_square, (x, y))
