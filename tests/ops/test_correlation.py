"""Correlation and its gap from 1."""

from __future__ import annotations

import statistics

import pytest
import torch

from limbeck.ops.correlation import centred, correlation_gap, guarded_correlation


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_centred():
    assert centred(torch.tensor([[1.0, 3.0], [5.0, 11.0]]), dim=1).tolist() == [[-1.0, 1.0], [-3.0, 3.0]]
    assert centred(torch.tensor([[1.0, 3.0], [5.0, 11.0]]).half(), dim=0).tolist() == [[-2.0, -4.0], [2.0, 4.0]]
    assert centred(torch.ones(1, 2).half(), dim=0).dtype == torch.float32


@pytest.mark.parametrize("dim", [0, 1])
def test_against_the_standard_library(dim):
    x, y = draw(4, 5), draw(4, 5, seed=1)
    rows = zip(*((z if dim else z.T).tolist() for z in (x, y)), strict=True)
    expected = [statistics.correlation(a, b) for a, b in rows]
    assert 1 - correlation_gap(x, y, dim=dim).item() == pytest.approx(statistics.fmean(expected), rel=1e-12)
    assert guarded_correlation(x, y, dim=dim, epsilon=0).tolist() == pytest.approx(expected, rel=1e-12)


def test_level_and_scale_do_not_matter():
    x = draw(4, 5).float()
    assert correlation_gap(x, x.clone(), dim=-1).item() == 0
    assert correlation_gap(x, 3 * x + 1, dim=-1).item() == pytest.approx(0, abs=1e-10)
    assert correlation_gap(x, -x, dim=-1).item() == pytest.approx(2)


def test_maps_are_averaged_over_all_other_dimensions():
    x, y = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    rows = (z.movedim(1, -1).reshape(8, 3) for z in (x, y))
    torch.testing.assert_close(correlation_gap(x, y, dim=1), correlation_gap(*rows, dim=1))


def test_what_is_tiny_counts_in_full():
    x, y = draw(2, 5), draw(2, 5, seed=1)
    torch.testing.assert_close(correlation_gap(1e-12 * x, 1e-12 * y, dim=-1), correlation_gap(x, y, dim=-1))


def test_the_guard_is_added_to_the_product_of_the_lengths():
    x, y = torch.tensor([[3.0, -3.0]]), torch.tensor([[1.0, -1.0]])
    assert guarded_correlation(x, y, dim=-1, epsilon=2.0).item() == pytest.approx(6 / (6 + 2))


def test_constants():
    flat, x = torch.full((1, 3), 7.0, requires_grad=True), torch.tensor([[1.0, 2.0, 4.0]])
    for other, gap in ((x, 0.5), (torch.zeros(1, 3), 0.0)):
        value = correlation_gap(flat, other, dim=-1)
        assert value.item() == pytest.approx(gap)
        assert torch.autograd.grad(value.sum(), flat)[0].tolist() == [[0.0, 0.0, 0.0]]
        guarded = guarded_correlation(flat, other, dim=-1, epsilon=1e-8)
        assert guarded.item() == 0
        assert torch.autograd.grad(guarded.sum(), flat)[0].isfinite().all()
