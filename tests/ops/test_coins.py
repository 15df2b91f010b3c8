"""Cross-entropies of coins: torch's own as oracle, extremes, missing labels, derivatives."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from limbeck.ops.coins import coin_cross_entropy


def test_oracle():
    torch.manual_seed(0)
    logits, labels = 5 * torch.randn(4, 6, dtype=torch.float64), torch.rand(4, 6, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1)
    torch.testing.assert_close(coin_cross_entropy(logits, labels), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tiny_value_is_exact(dtype):
    """Where 1 + exp(-x) is rounded to 1 the value is exp(-x) still."""
    logits = torch.tensor([[-60.0], [40.0], [-12.0], [0.0], [12.0]], dtype=dtype)
    labels = torch.tensor([[0.0], [1.0], [0.0], [1.0], [1.0]], dtype=dtype)
    expected = [math.log1p(math.exp(-60)), math.log1p(math.exp(-40)), math.log1p(math.exp(-12)), math.log(2), math.log1p(math.exp(-12))]
    assert coin_cross_entropy(logits, labels).tolist() == pytest.approx(expected, rel=1e-6 if dtype == torch.float32 else 1e-14)


def test_large_logits_are_finite():
    logits = torch.tensor([[1e4, -1e4], [1e4, -1e4]], requires_grad=True)
    value = coin_cross_entropy(logits, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    value.sum().backward()
    assert value.tolist() == [0.0, 2e4]
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.0, 0.0], [1.0, -1.0]]


def test_a_missing_label_is_left_out():
    logits = torch.tensor([[0.0, 3.0]], requires_grad=True)
    value = coin_cross_entropy(logits, torch.tensor([[1.0, math.nan]]))
    value.backward()
    assert value.item() == pytest.approx(math.log(2))
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-0.5, 0.0]]


def test_derivatives():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    for given in (labels, labels.detach()):
        inputs = (logits, given) if given.requires_grad else (logits,)
        assert torch.autograd.gradcheck(lambda x, y=given: coin_cross_entropy(x, y), (logits,))
        assert torch.autograd.gradgradcheck(lambda x, y=given: coin_cross_entropy(x, y), (logits,))
        assert torch.autograd.gradcheck(lambda x, *y: coin_cross_entropy(x, y[0] if y else labels.detach()), inputs)


def test_any_shape_whose_last_dimension_are_the_labels():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, dtype=torch.float64), torch.rand(2, 3, 4, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(2)
    torch.testing.assert_close(coin_cross_entropy(logits, labels), expected)


def test_a_missing_label_leaves_the_gradient_alone_where_labels_learn():
    logits, labels = torch.tensor([[0.0, 3.0]], requires_grad=True), torch.tensor([[1.0, math.nan]], requires_grad=True)
    (found,) = torch.autograd.grad(coin_cross_entropy(logits, labels), logits)
    assert found.tolist() == [[-0.5, 0.0]]
