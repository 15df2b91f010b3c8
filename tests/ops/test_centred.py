"""Centred kernels: the definition with explicit matrices, exact zero, invariances, slices, corners."""

from __future__ import annotations

import pytest
import torch

from limbeck.ops.centred import gaussian_misalignment, linear_misalignment


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cka(k, m):
    size = len(k)
    h = torch.eye(size, dtype=k.dtype) - 1 / size
    k, m = h @ k @ h, h @ m @ h
    return ((k * m).sum() / (k.norm() * m.norm())).item()


def gaussian(x, bandwidth):
    squares = (x[:, None] - x).square().sum(-1)
    return (-squares / (2 * bandwidth**2 * squares.mean())).exp()


@pytest.mark.parametrize(("batch", "c", "d"), [(5, 7, 3), (5, 3, 7), (6, 2, 3), (9, 3, 3), (4, 4, 4), (5, 4, 4), (4, 4, 3)])
def test_linear(batch, c, d):
    x, y = draw(batch, c) + 1, draw(batch, d, seed=1) - 2
    expected = 1 - cka(x @ x.T, y @ y.T)
    assert linear_misalignment(x, y).item() == pytest.approx(expected, rel=1e-9)
    torch.autograd.gradcheck(linear_misalignment, (x.requires_grad_(), y))


@pytest.mark.parametrize("chunk", [1, 2, 5, 6, 9])
@pytest.mark.parametrize("bandwidth", [0.5, 2.0])
def test_gaussian(bandwidth, chunk):
    x, y = draw(6, 3), draw(6, 4, seed=1)
    expected = 1 - cka(gaussian(x, bandwidth), gaussian(y, bandwidth))
    x.requires_grad_()
    value = gaussian_misalignment(x, y, bandwidth=bandwidth, chunk=chunk)
    assert value.item() == pytest.approx(expected, rel=1e-9)
    (gradient,) = torch.autograd.grad(value, x)
    (whole,) = torch.autograd.grad(gaussian_misalignment(x, y, bandwidth=bandwidth, chunk=6), x)
    torch.testing.assert_close(gradient, whole)


@pytest.mark.parametrize(("batch", "c", "d", "thin"), [(9, 3, 3, True), (4, 4, 4, True), (4, 5, 5, False), (9, 3, 4, False)])
def test_the_way_that_holds_less(monkeypatch, batch, c, d, thin):
    """In the space of the features, of one size, where they have no more dimensions than the batch has examples."""
    monkeypatch.setattr("limbeck.ops.centred.product_gap", lambda *_: torch.tensor(8.0))
    assert (linear_misalignment(draw(batch, c), draw(batch, d, seed=1)).item() == 4) == thin


def test_close_features_do_not_cancel():
    x = draw(12, 3)
    y = x + 1e-4 * draw(12, 3, seed=1)
    torch.testing.assert_close(linear_misalignment(x.float(), y.float()).double(), linear_misalignment(x, y), rtol=0.01, atol=0)


def both(x, y):
    return [linear_misalignment(x, y), gaussian_misalignment(x, y, bandwidth=1.0, chunk=4)]


@pytest.mark.parametrize("dim", [3, 40])
def test_exactly_zero_at_equality_in_float32(dim):
    x = draw(12, dim).float()
    assert [value.item() for value in both(x, x.clone())] == [0, 0]


@pytest.mark.parametrize("dim", [3, 40])
def test_rotation_shift_and_scale_do_not_matter(dim):
    x, y = draw(12, dim), draw(12, 5, seed=2)
    moved = 7 * x @ torch.linalg.qr(draw(dim, dim, seed=3)).Q + 4
    torch.testing.assert_close(both(moved, y), both(x, y))


def test_coinciding_examples_and_single_ones():
    x, same = draw(4, 3), torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    for value in (*both(same, x), linear_misalignment(same, draw(4, 9)), linear_misalignment(same, draw(4, 2))):
        assert value.item() == pytest.approx(0.5)
        (gradient,) = torch.autograd.grad(value, same)
        assert gradient.isfinite().all()
    assert [value.item() for value in both(same, same.detach())] == [0, 0]
    assert [value.item() for value in both(x[:1], x[1:2])] == [0, 0]


def test_large_values_and_half_precision():
    x, y = 1e15 * draw(6, 3).float(), 1e15 * draw(6, 8, seed=1).float()
    torch.testing.assert_close(both(x, y), both(x / 1e15, y / 1e15), rtol=1e-4, atol=1e-6)
    z = draw(6, 3).bfloat16()
    assert all(value.dtype == torch.float32 for value in both(z, z.flip(0)))
    assert both(z, z.flip(0)) == both(z.float(), z.float().flip(0))
    expected = [*both(x, y), *both(x, x.flip(0))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close([*both(x, y), *both(x, x.flip(0))], expected)


def test_half_precision_is_centred_in_full():
    x, y = (draw(6, 3, seed=seed).bfloat16() + 8 for seed in (0, 1))
    torch.testing.assert_close(both(x, y), both(x.float(), y.float()))


def test_distances_of_near_neighbours_do_not_cancel():
    """Two clusters of 20, each of size 1/8, that are 1000 apart; the kernels are as narrow as the clusters."""
    far = torch.arange(40, dtype=torch.float64)[:, None].ge(20) * 1000.0
    x, y = draw(40, 3) / 8 + far, draw(40, 3, seed=1) / 8 + far
    exact = gaussian_misalignment(x, y, bandwidth=2e-4, chunk=16)
    assert 0.01 < exact.item() < 0.99
    torch.testing.assert_close(gaussian_misalignment(x.float(), y.float(), bandwidth=2e-4, chunk=16).double(), exact, rtol=1e-2, atol=0)
