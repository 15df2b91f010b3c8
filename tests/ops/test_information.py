"""Bounds on mutual information: values by loops, the cases in which they meet, a Gaussian whose information is known, extremes."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.information import explicit_log_mean_exp_without, infonce, interpolated, log_mean_exp_without, tuba

SCORES = torch.tensor([[1.0, -0.5, 2.0, 0.3], [0.2, 1.5, -1.0, 0.0], [0.7, 0.1, -0.2, 1.1], [0.0, 3.0, 0.4, -2.0]], dtype=torch.float64)
BASELINE = torch.tensor([0.3, -0.2, 1.0, 0.5], dtype=torch.float64)


def pairs():
    return [(i, j) for i in range(4) for j in range(4) if i != j]


def test_infonce_by_loops():
    rows = SCORES.tolist()
    expected = sum(math.log(math.exp(row[i]) / sum(map(math.exp, row)) * 4) for i, row in enumerate(rows)) / 4
    assert infonce(SCORES).item() == pytest.approx(expected, rel=1e-12)
    assert infonce(100 * torch.eye(4)).item() == pytest.approx(math.log(4))
    assert infonce(torch.ones(1, 1)).item() == 0


@pytest.mark.parametrize("constant", [False, True])
def test_tuba_by_loops(constant):
    rows, a = SCORES.tolist(), [1.0] * 4 if constant else BASELINE.tolist()
    joint = sum(rows[i][i] - a[i] for i in range(4)) / 4
    marginal = sum(math.exp(rows[i][j] - a[i]) for i, j in pairs()) / 12
    got = tuba(SCORES, 1.0 if constant else BASELINE)
    assert got.item() == pytest.approx(1 + joint - marginal, rel=1e-12)


def test_log_mean_exp_without_by_loops():
    rows = SCORES.tolist()
    expected = [[math.log(sum(math.exp(row[k]) for k in range(4) if k != j) / 3) for j in range(4)] for row in rows]
    torch.testing.assert_close(log_mean_exp_without(SCORES), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(explicit_log_mean_exp_without(SCORES), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 1.0])
def test_interpolated_by_loops(alpha):
    rows, a = SCORES.tolist(), BASELINE.tolist()

    def m(i, j):
        return alpha * sum(math.exp(rows[i][k]) for k in range(4) if k != j) / 3 + (1 - alpha) * math.exp(a[i])

    joint = sum(rows[i][i] - math.log(m(i, j)) for i, j in pairs()) / 12
    marginal = sum(math.exp(rows[i][j]) / m(i, i) for i, j in pairs()) / 12
    scores, baseline = SCORES.clone().requires_grad_(), BASELINE.clone().requires_grad_()
    got = interpolated(scores, baseline, log_mean_exp_without(scores), alpha=alpha)
    got.backward()
    assert got.item() == pytest.approx(1 + joint - marginal, rel=1e-12)
    assert scores.grad.isfinite().all()
    assert baseline.grad.isfinite().all()
    assert baseline.grad.any() == (alpha < 1)


def test_without_others_it_is_tuba():
    torch.testing.assert_close(interpolated(SCORES, BASELINE, log_mean_exp_without(SCORES), alpha=0.0), tuba(SCORES, BASELINE))


def test_gradients():
    inputs = SCORES.clone().requires_grad_(), BASELINE.clone().requires_grad_()
    torch.autograd.gradcheck(lambda x, a: interpolated(x, a, log_mean_exp_without(x), alpha=0.3), inputs)
    torch.autograd.gradcheck(tuba, inputs)


def test_one_score_above_all_others():
    """The exact form keeps what is left without it; the public code takes it for larger than it by log(e - 1)."""
    scores = torch.tensor([[0.0, 50.0, 1.0], [5.0, 5.0, 5.0], [1e4, -1e4, 0.0]])
    left = math.log((1 + math.e) / 2)
    got = log_mean_exp_without(scores)
    assert got[0].tolist() == pytest.approx([50 - math.log(2), left, 50 - math.log(2)])
    assert got[1].tolist() == pytest.approx([5.0] * 3)
    assert got[2].tolist() == pytest.approx([-math.log(2), 1e4 - math.log(2), 1e4 - math.log(2)])
    assert explicit_log_mean_exp_without(scores)[0, 1].item() == pytest.approx(50 + math.log(math.e - 1) - math.log(2))
    scores.requires_grad_()
    log_mean_exp_without(scores).sum().backward()
    assert scores.grad.isfinite().all()
    torch.testing.assert_close(scores.grad[1], torch.ones(3))


@pytest.mark.parametrize("gap", [1e-7, 1e-3, 1.0, 13.0, 40.0])
def test_public_arithmetic_of_small_and_large_gaps(gap):
    """What is left without a score is log(exp(gap) - 1) above it, where the gap is that to the logarithm of the sum."""
    scores = torch.tensor([[0.0, math.log(math.expm1(gap))]] * 2, dtype=torch.float64)
    assert explicit_log_mean_exp_without(scores)[0, 0].item() == pytest.approx(math.log(math.expm1(gap)), rel=1e-7)


def test_public_arithmetic_is_exact_beside_a_score_far_below():
    scores = torch.tensor([[0.0, -1.0, -20000.0]] * 3)
    assert explicit_log_mean_exp_without(scores)[0, 0].item() == pytest.approx(-1 - math.log(2), rel=1e-6)


def test_bounds_of_a_gaussian_whose_information_is_known():
    """With the true critic: NWJ and InfoNCE stay below, and come near, the information of two correlated numbers."""
    generator = torch.Generator().manual_seed(1)
    x, noise = torch.randn(2, 1000, generator=generator, dtype=torch.float64).unbind()
    rho = 0.8
    y = rho * x + math.sqrt(1 - rho**2) * noise
    scores = -((y[:, None] - rho * x) ** 2) / (2 * (1 - rho**2)) + y[:, None] ** 2 / 2 - math.log(1 - rho**2) / 2
    truth = -0.5 * math.log(1 - rho**2)
    assert infonce(scores).item() == pytest.approx(truth, abs=0.05)
    assert tuba(scores + 1, 1.0).item() == pytest.approx(truth, abs=0.1)
    others = log_mean_exp_without(scores)
    assert interpolated(scores, torch.zeros(1000).double(), others, alpha=0.5).item() == pytest.approx(truth, abs=0.05)
