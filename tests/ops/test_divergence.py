"""Divergences and reductions."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.divergence import bernoulli_kl, cross_entropy, jensen_shannon, kl, log_softmax, symmetric_kl, total_variation
from limbeck.ops.precision import widen
from limbeck.ops.reduce import example_mean


def test_kl_by_hand():
    p, q = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    torch.testing.assert_close(kl(p, q), torch.tensor([0.75 * math.log(1.5) + 0.25 * math.log(0.5)]))
    torch.testing.assert_close(kl(q, p), torch.tensor([0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)]))
    assert kl(p, p).item() == 0


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shares(logits: torch.Tensor) -> list[list[float]]:
    rows = [[math.exp(z) for z in row] for row in logits.tolist()]
    return [[x / sum(row) for x in row] for row in rows]


def naive_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_cross_entropy_by_loops():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    expected = [-sum(x * math.log(y) for x, y in zip(a, b, strict=True)) for a, b in zip(shares(p), shares(q), strict=True)]
    assert cross_entropy(p, q).tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(cross_entropy(p, q) - cross_entropy(p, p), kl(p, q))


def test_symmetric_kl_by_loops():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    expected = [(naive_kl(a, b) + naive_kl(b, a)) / 2 for a, b in zip(shares(p), shares(q), strict=True)]
    assert symmetric_kl(p, q).tolist() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(symmetric_kl(p, q), symmetric_kl(q, p))
    assert not symmetric_kl(p, p).any()


@pytest.mark.parametrize("mixture", [0.1, 0.5, 0.8])
def test_jensen_shannon_by_loops(mixture):
    p, q = draw(3, 5), draw(3, 5, seed=1)
    expected = []
    for a, b in zip(shares(p), shares(q), strict=True):
        m = [mixture * x + (1 - mixture) * y for x, y in zip(a, b, strict=True)]
        expected.append(mixture * naive_kl(a, m) + (1 - mixture) * naive_kl(b, m))
    assert jensen_shannon(p, q, mixture=mixture).tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(jensen_shannon(p, q, mixture=mixture), jensen_shannon(q, p, mixture=1 - mixture))
    torch.testing.assert_close(jensen_shannon(p, p, mixture=mixture), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_jensen_shannon_of_what_is_disjoint():
    """Its largest value, the entropy of the weights; the gradient is finite and leads nowhere."""
    p, q = torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]], requires_grad=True)
    value = jensen_shannon(p, q, mixture=0.25)
    assert value.item() == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    value.sum().backward()
    assert q.grad is not None
    assert q.grad.tolist() == [[0.0, 0.0]]


def test_total_variation_by_loops():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    expected = [sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 2 for a, b in zip(shares(p), shares(q), strict=True)]
    assert total_variation(p, q).tolist() == pytest.approx(expected, rel=1e-12)
    assert not total_variation(p, p).any()
    assert total_variation(torch.tensor([1e4, 0.0]), torch.tensor([0.0, 1e4])).item() == 1


def test_bernoulli_kl_by_loops():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    got = bernoulli_kl(p, q)
    for i in range(3):
        for j in range(5):
            a, b = (1 / (1 + math.exp(-x[i, j].item())) for x in (p, q))
            assert got[i, j].item() == pytest.approx(naive_kl([a, 1 - a], [b, 1 - b]), rel=1e-9)
    assert not bernoulli_kl(p, p).any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_bernoulli_kl_does_not_cancel(sign):
    """Coins that fall on one side nearly always, whichever that is: as exact in float32 as in float64."""
    p, q = sign * torch.tensor([12.0, 12.0]), sign * torch.tensor([11.0, -3.0])
    torch.testing.assert_close(bernoulli_kl(p, q).double(), bernoulli_kl(p.double(), q.double()), rtol=1e-5, atol=0)


def test_bernoulli_kl_of_sure_coins():
    p, q = torch.tensor([1e4, -1e4, 1e4, 0.0]), torch.tensor([-1e4, 1e4, 1e4, 1e4], requires_grad=True)
    value = bernoulli_kl(p, q)
    assert value.tolist() == pytest.approx([1e4, 1e4, 0.0, 5e3 - math.log(2)])
    value.sum().backward()
    assert q.grad is not None
    assert q.grad.tolist() == [-1.0, 1.0, 0.0, 0.5]


@pytest.mark.parametrize(
    "divergence", [kl, cross_entropy, symmetric_kl, total_variation, bernoulli_kl, lambda p, q: jensen_shannon(p, q, mixture=0.3)]
)
def test_half_precision_is_widened(divergence):
    p, q = draw(2, 4).bfloat16(), draw(2, 4, seed=1).bfloat16()
    got = divergence(p, q)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, divergence(p.float(), q.float()))


def test_log_softmax_is_wide():
    assert log_softmax(torch.zeros(2, 4).bfloat16()).dtype == torch.float32
    assert log_softmax(torch.zeros(2, 4).double()).dtype == torch.float64


def test_widen_keeps_what_is_wide():
    x = torch.zeros(2)
    assert widen(x) is x
    assert widen(x.half()).dtype == torch.float32
    assert widen(x.double()).dtype == torch.float64


def test_example_mean():
    assert example_mean(torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]])).tolist() == [3.0, 1.0]
    assert example_mean(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "function",
    [kl, symmetric_kl, total_variation, cross_entropy, lambda p, q: jensen_shannon(p, q, mixture=0.3)],
    ids=["kl", "symmetric_kl", "total_variation", "cross_entropy", "jensen_shannon"],
)
def test_classes_are_the_last_dimension(function):
    p, q = torch.randn(2, 2, 3, 4, dtype=torch.float64).unbind()
    got = function(p, q)
    assert got.shape == (2, 3)
    torch.testing.assert_close(got.flatten(), function(p.flatten(0, 1), q.flatten(0, 1)))
