"""Directions, similarities, distances and angles."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.geometry import corners, cosines, gram, length, pairwise_distances, squared_distances, unit, vertex_cosines

POINTS = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])


def test_unit_by_hand():
    torch.testing.assert_close(unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_unit_along_another_dimension():
    torch.testing.assert_close(unit(torch.tensor([[3.0], [4.0]]), dim=0), torch.tensor([[0.6], [0.8]]))


def test_unit_of_half_precision_does_not_underflow():
    got = unit(torch.tensor([3e-5, 4e-5]).half())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.tensor([0.6, 0.8]), rtol=0.02, atol=0)


@pytest.mark.parametrize("dim", [0, 1])
def test_unit_of_zero_has_no_gradient(dim):
    x = torch.zeros(2, 2, requires_grad=True)
    unit(x, dim=dim).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_unit_is_the_same_along_every_dimension():
    x = torch.randn(3, 4, 5)
    for dim in (0, 1, 2, -1, -2):
        torch.testing.assert_close(unit(x, dim=dim), unit(x.movedim(dim, -1)).movedim(-1, dim))


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
@pytest.mark.parametrize("order", [1, 2])
def test_unit_has_its_derivatives(dim, order):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: unit(x, dim=dim, order=order), x)
    assert torch.autograd.gradgradcheck(lambda x: unit(x, dim=dim, order=order), x)


def test_length_by_hand():
    x = torch.tensor([[3.0, 0.0], [4.0, 0.0]], requires_grad=True)
    value = length(x, dim=0)
    value.sum().backward()
    assert value.tolist() == [5.0, 0.0]
    torch.testing.assert_close(x.grad, torch.tensor([[0.6, 0.0], [0.8, 0.0]]))


def test_squared_distances_by_hand():
    points = torch.tensor([[1.0, 2.0], [4.0, 6.0], [1.0, 0.0]])
    assert squared_distances(points, slice(0, 3)).tolist() == [[0.0, 25.0, 4.0], [25.0, 0.0, 45.0], [4.0, 45.0, 0.0]]
    assert squared_distances(points, slice(1, 2)).tolist() == [[25.0, 0.0, 45.0]]


def test_squared_distances_of_near_neighbours():
    """In float32 the inner products would cancel to nothing; autocast leaves them alone."""
    points = torch.tensor([[1.0, 1.0], [1.0 + 2**-20, 1.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = squared_distances(points, slice(0, 2))
    assert got.dtype == torch.float32
    assert got[0, 1].item() == pytest.approx(2**-40, rel=1e-3, abs=0)


def test_cosines_by_hand():
    first, second = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    torch.testing.assert_close(cosines(first, second), torch.tensor([24 / 25, 0.0]))
    torch.testing.assert_close(cosines(first, second, dim=0), torch.tensor([12 / (10**0.5 * 4), 12 / (4 * 13**0.5)]))
    assert cosines(first.half(), second.half()).dtype == torch.float32


@pytest.mark.parametrize("which", [0, 1])
def test_cosines_of_zero_have_no_gradient(which):
    pair = [torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])]
    pair[which] = torch.zeros(2)
    for x in pair:
        x.requires_grad_()
    value = cosines(*pair)
    value.backward()
    assert value.item() == 0
    assert pair[0].grad is not None
    assert pair[1].grad is not None
    assert pair[0].grad.tolist() == pair[1].grad.tolist() == [0.0, 0.0]


def test_unit_of_order_one():
    x = torch.tensor([[3.0, -1.0], [0.0, 0.0]], requires_grad=True)
    value = unit(x, order=1)
    value.sum().backward()
    torch.testing.assert_close(value.detach(), torch.tensor([[0.75, -0.25], [0.0, 0.0]]))
    assert x.grad is not None
    assert x.grad[1].tolist() == [0.0, 0.0]


def test_unit_of_order_one_along_another_dimension():
    torch.testing.assert_close(unit(torch.tensor([[3.0], [-1.0]]), dim=0, order=1), torch.tensor([[0.75], [-0.25]]))


@pytest.mark.parametrize("which", [0, 1])
def test_cosines_of_half_precision_do_not_overflow(which):
    """300 * 300 is more than half precision holds."""
    pair = [torch.tensor([3.0, 4.0]).half(), torch.tensor([3.0, 4.0]).half()]
    pair[which] = 100 * pair[which]
    torch.testing.assert_close(cosines(*pair), torch.tensor(1.0))


@pytest.mark.parametrize("function", [pairwise_distances, lambda x: corners(x)[0], lambda x: corners(x)[1]])
def test_maps_are_one_vector_and_half_precision_is_widened(function):
    maps = torch.randn(3, 2, 2, 4).half()
    torch.testing.assert_close(function(maps), function(maps.float().flatten(1)))


def test_gram_of_some_rows():
    torch.testing.assert_close(gram(POINTS + 1, slice(1, 3)), gram(POINTS + 1)[1:3])


def test_gram_by_hand():
    assert gram(POINTS + 1).tolist() == [[2.0, 5.0, 6.0], [5.0, 17.0, 9.0], [6.0, 9.0, 26.0]]
    assert gram(torch.ones(2, 3, 4, 5)).tolist() == [[60.0, 60.0], [60.0, 60.0]]


def test_gram_of_half_precision_does_not_overflow():
    assert gram(torch.full((1, 4), 300.0).half()).item() == 360000


def test_distances_by_hand():
    assert pairwise_distances(POINTS).tolist() == [[0.0, 3.0, 4.0], [3.0, 0.0, 5.0], [4.0, 5.0, 0.0]]


def test_distances_of_near_neighbours_do_not_cancel():
    x = 1e4 + torch.eye(30) / 8
    got = pairwise_distances(x)
    torch.testing.assert_close(got, math.sqrt(2) / 8 * (1 - torch.eye(30)))


def test_distances_have_finite_gradients_at_zero():
    x = torch.ones(3, 2, requires_grad=True)
    pairwise_distances(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 0.0]] * 3


def test_angles_by_hand():
    """A right angle at the first point of a 3-4-5 triangle; cosines 3/5 and 4/5 at the others."""
    got = vertex_cosines(*corners(POINTS), slice(0, 3))
    expected = [[[0, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0.6], [0, 0, 0], [0.6, 0, 1]], [[1, 0.8, 0], [0.8, 1, 0], [0, 0, 0]]]
    torch.testing.assert_close(got, torch.tensor(expected))


@pytest.mark.parametrize("function", [gram, lambda x: vertex_cosines(*corners(x), slice(0, 2))])
def test_autocast_does_not_lower_the_precision(function):
    x = torch.randn(4, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = function(x)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, function(x))


def test_vertices_are_a_part():
    torch.testing.assert_close(vertex_cosines(*corners(POINTS), slice(1, 3)), vertex_cosines(*corners(POINTS), slice(0, 3))[1:])


def test_corners_by_hand():
    """Around their mean (1, 4/3) the points are (-1, -4/3), (2, -4/3), (-1, 8/3)."""
    products, reciprocals = corners(POINTS)
    expected = torch.tensor([[25, -2, -23], [-2, 52, -50], [-23, -50, 73]], dtype=torch.float64) / 9
    torch.testing.assert_close(products, expected)
    torch.testing.assert_close(reciprocals, torch.tensor([[0, 1 / 3, 1 / 4], [1 / 3, 0, 1 / 5], [1 / 4, 1 / 5, 0]]))


def test_angles_of_near_neighbours_far_from_the_others():
    """A right angle of size 1/64 among points a thousand away."""
    points = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]) / 64 + 512
    got = vertex_cosines(*corners(torch.cat([points, torch.tensor([[-500.0, 300.0]])])), slice(1, 2))
    torch.testing.assert_close(got[0, 0, :3], torch.tensor([1.0, 0.0, 0.0]), rtol=1e-5, atol=1e-5)
