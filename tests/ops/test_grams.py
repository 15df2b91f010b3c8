"""Products of thin matrices: the distance equals that of the products formed, is 0 at equality, and forms none."""

from __future__ import annotations

import torch

from limbeck.ops.grams import inner_products, product_gap


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(4)]


def test_equals_the_distance_of_the_products():
    u, a, v, b = draw(2, 7, 3)
    expected = (u @ a.mT - v @ b.mT).square().sum((-2, -1))
    torch.testing.assert_close(product_gap(u, a, v, b), expected, rtol=1e-12, atol=1e-12)
    u, a, v, b = draw(5, 2, seed=1)
    torch.testing.assert_close(product_gap(u, a, v, b), (u @ a.T - v @ b.T).square().sum(), rtol=1e-12, atol=1e-12)


def test_is_exactly_zero_at_equality_and_does_not_cancel_beside_it():
    u, a, _, _ = draw(3, 40, 4, dtype=torch.float32)
    assert torch.equal(product_gap(u, a, u.clone(), a.clone()), torch.zeros(3))
    near = [u, a, u * (1 + 1e-4), a]
    exact = product_gap(*[x.double() for x in near])
    torch.testing.assert_close(product_gap(*near).double(), exact, rtol=1e-4, atol=0)


def test_autocast_does_not_touch_it():
    factors = draw(6, 2, dtype=torch.float32)
    expected = product_gap(*factors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(product_gap(*factors), expected)


def test_inner_products_and_their_derivatives():
    assert inner_products(torch.tensor([[1.0, 2.0], [3.0, -1.0]])).tolist() == [[5.0, 1.0], [1.0, 10.0]]
    x = draw(2, 3, 4)[0].requires_grad_()
    torch.testing.assert_close(inner_products(x), x @ x.mT)
    assert torch.autograd.gradcheck(inner_products, x)
    assert torch.autograd.gradgradcheck(inner_products, x)


def test_inner_products_keep_their_precision_under_autocast():
    x = draw(4, 5, dtype=torch.float32)[0].requires_grad_()
    found: list[torch.Tensor] = []
    for lowered in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered):
            value = inner_products(x)
            found += [value, *torch.autograd.grad((value * torch.arange(16.0).view(4, 4)).sum(), x)]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
