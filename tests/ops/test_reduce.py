"""Reductions: the batch stays."""

from __future__ import annotations

import pytest
import torch

from limbeck.ops.reduce import example_mean, token_mean


def test_everything_behind_the_batch_is_averaged():
    x = torch.arange(24.0).view(2, 3, 4)
    assert example_mean(x).tolist() == [5.5, 17.5]
    assert example_mean(x[:, :, 0]).tolist() == [4.0, 16.0]


def test_what_has_one_value_an_example_stays():
    x = torch.tensor([3.0, 5.0])
    assert example_mean(x) is x


VALUES = torch.tensor([[1.0, 2.0, torch.inf], [torch.nan, 9.0, torch.nan], [torch.inf, torch.nan, torch.inf]])
COUNTED = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])


@pytest.mark.parametrize("counted", [COUNTED, COUNTED.int(), 2.0 * COUNTED])
def test_means_over_tokens_and_over_sequences(counted):
    assert token_mean(VALUES, counted).item() == 4.0
    assert token_mean(VALUES, counted, over="sequences").item() == pytest.approx((1.5 + 9) / 2)
    assert token_mean(VALUES, counted, divisor=24.0).item() == 0.5


@pytest.mark.parametrize("over", ["tokens", "sequences"])
def test_a_single_token(over):
    assert token_mean(VALUES, torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0]]), over=over).item() == 9.0


def test_what_does_not_count_has_no_gradient():
    values = VALUES.clone().requires_grad_()
    (found,) = torch.autograd.grad(token_mean(values, COUNTED), values)
    torch.testing.assert_close(found, COUNTED / 3)


def test_all_tokens_count_where_nothing_is_said():
    values = torch.tensor([[1.0, 2.0], [3.0, 8.0]])
    assert token_mean(values).item() == 3.5
    assert token_mean(values, over="sequences").item() == 3.5


@pytest.mark.parametrize("over", ["tokens", "sequences"])
def test_where_no_token_counts_the_mean_is_0(over):
    assert token_mean(VALUES, torch.zeros(3, 3), over=over).item() == 0
    assert token_mean(torch.empty(0, 3), over=over).item() == 0
