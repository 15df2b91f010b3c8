"""Finding partners: an oracle by loops, slices, the value without knowledge."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.pairing import pairing_entropy


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 9])
def test_oracle(chunk):
    a, b = draw(5, 3), draw(5, 3, seed=1)
    a.requires_grad_()
    total = 0.0
    for i in range(5):
        scores = [(a[i] @ b[j]).item() / 0.5 for j in range(5)]
        total += math.log(sum(map(math.exp, scores))) - scores[i]
    value = pairing_entropy(a, b, temperature=0.5, chunk=chunk)
    assert value.item() == pytest.approx(total / 5, rel=1e-10)
    (gradient,) = torch.autograd.grad(value, a)
    (whole,) = torch.autograd.grad(pairing_entropy(a, b, temperature=0.5, chunk=5), a)
    torch.testing.assert_close(gradient, whole)


def test_equal_rows_tell_nothing():
    x = torch.ones(4, 2)
    assert pairing_entropy(x, x, temperature=1.0, chunk=8).item() == pytest.approx(math.log(4))
