"""Summed squares: by hand, what counts as 0, what is not read, and the gradient."""

from __future__ import annotations

import math

import torch

from limbeck.ops.squares import squared_distance

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
