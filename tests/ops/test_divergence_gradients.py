"""The closed forms are the divergences of `ops.divergence`, and their gradients those of autograd."""

from __future__ import annotations

import itertools

import pytest
import torch

from limbeck.ops import divergence as plain
from limbeck.ops.divergence_gradients import Divergence, divergence_and_gradient

NAMES: list[Divergence] = ["forward", "reverse", "symmetric", "js", "skew_forward", "skew_reverse", "tv"]


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p * (p.log() - q.log())).sum(-1)


def oracle(name: str, z_q: torch.Tensor, z_p: torch.Tensor, mixture: float, skew: float) -> torch.Tensor:
    p, q = z_p.softmax(-1), z_q.softmax(-1)
    m = mixture * p + (1 - mixture) * q
    return {
        "forward": lambda: kl(p, q),
        "reverse": lambda: kl(q, p),
        "symmetric": lambda: (kl(p, q) + kl(q, p)) / 2,
        "js": lambda: mixture * kl(p, m) + (1 - mixture) * kl(q, m),
        "skew_forward": lambda: kl(p, skew * p + (1 - skew) * q),
        "skew_reverse": lambda: kl(q, skew * q + (1 - skew) * p),
        "tv": lambda: (p - q).abs().sum(-1) / 2,
    }[name]()


def closed(name: str, z_q: torch.Tensor, z_p: torch.Tensor, mixture: float = 0.5, skew: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    own, theirs = z_q.detach().clone(), z_p.clone()
    rooms = (torch.full_like(own, torch.nan), torch.full_like(own, torch.nan))
    value, gradient = divergence_and_gradient(own, theirs, rooms, divergence=name, mixture=mixture, skew=skew)  # pyright: ignore
    assert gradient.data_ptr() == own.data_ptr()
    return value, gradient


@pytest.mark.parametrize(("name", "mixture", "skew"), itertools.product(NAMES, (0.1, 0.7), (0.0, 0.3)))
def test_value_and_gradient(name, mixture, skew):
    torch.manual_seed(0)
    z_q, z_p = (2 * torch.randn(5, 11, dtype=torch.float64)).requires_grad_(), 2 * torch.randn(5, 11, dtype=torch.float64)
    expected = oracle(name, z_q, z_p, mixture, skew)
    expected.sum().backward()
    value, gradient = closed(name, z_q, z_p, mixture, skew)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient, z_q.grad, rtol=1e-11, atol=1e-14)


def test_shares_next_to_nothing():
    z_q, z_p = torch.randn(2, 5, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for name, limit in (("skew_forward", "forward"), ("skew_reverse", "reverse")):
        for found, expected in zip(closed(name, z_q, z_p, skew=1e-20), closed(limit, z_q, z_p), strict=True):
            torch.testing.assert_close(found, expected)
    for mixture in (1e-20, 1 - 1e-16):
        value, gradient = closed("js", z_q, z_p, mixture)
        assert value.abs().max() < 1e-12
        assert gradient.abs().max() < 1e-12


def test_without_a_share_the_plain_formula_stays_finite():
    """Far apart, p / q is infinite."""
    z_q, z_p = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
    value, gradient = closed("skew_forward", z_q, z_p, skew=0.0)
    assert value.tolist() == [1e4]
    assert gradient.tolist() == [[1.0, -1.0]]


def test_by_hand():
    z_q, z_p = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.75, 0.25]]).log()
    value, gradient = closed("forward", z_q, z_p)
    assert value.item() == pytest.approx(0.75 * 0.4054651 - 0.25 * 0.6931472, rel=1e-5)
    torch.testing.assert_close(gradient, torch.tensor([[-0.25, 0.25]]))
    value, gradient = closed("tv", z_q, z_p)
    assert value.item() == pytest.approx(0.25)
    torch.testing.assert_close(gradient, torch.tensor([[-0.25, 0.25]]))


@pytest.mark.parametrize("name", NAMES)
def test_zero_at_equality(name):
    z = 30 * torch.randn(4, 1000, generator=torch.Generator().manual_seed(1))
    value, gradient = closed(name, z, z.clone())
    assert value.abs().max() < 1e-6
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_far_apart_is_finite(name):
    z_q, z_p = torch.tensor([[1e4, 0.0, -1e4]]), torch.tensor([[-1e4, 0.0, 1e4]])
    value, gradient = closed(name, z_q, z_p)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert value > 0.4


@pytest.mark.parametrize("name", NAMES)
def test_classes_that_both_exclude_change_nothing(name):
    z_q, z_p = torch.randn(3, 6), torch.randn(3, 6)
    out = torch.full((3, 2), -1e30)
    value, gradient = closed(name, torch.cat([z_q, out], 1), torch.cat([z_p, out], 1))
    expected, slope = closed(name, z_q, z_p)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.cat([slope, torch.zeros(3, 2)], 1))


def test_close_to_the_teacher_the_value_is_exact():
    torch.manual_seed(2)
    z_p = 3 * torch.randn(8, 5000, dtype=torch.float64)
    z_q = z_p + 0.01 * torch.randn(8, 5000, dtype=torch.float64)
    cases = {"forward": plain.kl(z_p, z_q), "reverse": plain.kl(z_q, z_p), "js": plain.jensen_shannon(z_p, z_q, mixture=0.5)}
    for name, exact in cases.items():
        value, _ = closed(name, z_q.float(), z_p.float())
        torch.testing.assert_close(value.double(), exact, rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_over_a_large_vocabulary_what_softmaxes_lack_of_one_is_made_up_for(name):
    """Divergences of 5e-5, beside sums that are off by 5e-7."""
    g = torch.Generator().manual_seed(0)
    z_p = 3 * torch.randn(4, 150_000, generator=g)
    z_q = (z_p.double() + 0.01 * torch.randn(4, 150_000, generator=g)).float()
    value, _ = closed(name, z_q, z_p)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), oracle(name, z_q.double(), z_p.double(), 0.5, 0.1), rtol=1e-3, atol=0)
