"""Tangent kernels: by hand, against autograd in float64, at their limits, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, ShapeMismatch
from limbeck.evaluate import kernel as room
from limbeck.evaluate.kernel import alignment, check_size, class_targets, movement, tangent_kernel


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Tanh(), nn.Linear(5, 3)).double()


def slopes(module: nn.Module, x: Tensor) -> np.ndarray:
    """Gradients of all outputs, `(examples, outputs, parameters)`, one by one."""
    rows = []
    for example in x:
        said = module(example[None])[0]
        own = [torch.autograd.grad(value, list(module.parameters()), retain_graph=True) for value in said]
        rows.append([torch.cat([part.flatten() for part in parts]).numpy() for parts in own])
    return np.array(rows)


def test_of_a_linear_model_by_hand():
    """The gradient of w x + b by (w, b) is (x, 1), for each output alone."""
    module = nn.Linear(2, 2)
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 0.5]])
    found = tangent_kernel(module, x)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, (x @ x.T + 1).double())


def test_against_autograd():
    module, x = net(), torch.randn(6, 4, dtype=torch.float64)
    found = tangent_kernel(module, x)
    assert all(layer.training for layer in module.modules())
    oracle = slopes(module.eval(), x)
    np.testing.assert_allclose(found.numpy(), np.einsum("icp,jcp->ij", oracle, oracle) / 3, rtol=1e-10)
    assert not any(layer.training for layer in module.modules())
    tangent_kernel(module, x)
    assert not any(layer.training for layer in module.modules())


def test_at_other_parameters():
    module, x = net().eval(), torch.randn(4, 4, dtype=torch.float64)
    other = {name: 2 * value.detach() for name, value in module.named_parameters()}
    expected = net().eval()
    expected.load_state_dict(other)
    torch.testing.assert_close(tangent_kernel(module, x, other), tangent_kernel(expected, x))
    assert not torch.allclose(tangent_kernel(module, x, other), tangent_kernel(module, x))


def test_alignment_by_hand():
    y = torch.tensor([1.0, -1.0, 1.0])
    assert alignment(torch.outer(y, y), y) == pytest.approx(1)
    assert alignment(torch.eye(3), y) == pytest.approx(3 / (np.sqrt(3) * 3))
    assert alignment(torch.ones(2, 2), torch.tensor([1.0, -1.0])) == 0
    kernel = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    own = torch.tensor([1.0, 2.0])
    assert alignment(kernel, own) == pytest.approx((2 + 2 + 2 + 12) / (np.sqrt(15) * 5))
    assert alignment(7 * kernel, -own[:, None]) == pytest.approx(alignment(kernel, own))
    both = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert alignment(kernel, both) == pytest.approx((2 + 1 + 1 + 6) / (np.sqrt(15) * np.sqrt(7)))
    assert alignment(torch.zeros(2, 2), own) == 0


def test_class_targets():
    found = class_targets(torch.tensor([1, 0, 3]), 4)
    assert found.tolist() == [[-0.25, 0.75, -0.25, -0.25], [0.75, -0.25, -0.25, -0.25], [-0.25, -0.25, -0.25, 0.75]]


def test_movement():
    first = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    assert movement(first, 5 * first) == pytest.approx(0, abs=1e-7)
    assert movement(torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([0.0, 1.0]))) == 1
    assert movement(first, torch.eye(2)) == pytest.approx(1 - 5 / np.sqrt(30))


def test_shapes_are_refused():
    with pytest.raises(ShapeMismatch, match=r"expected a kernel of 3 by 3 examples, found \(2, 2\)"):
        alignment(torch.eye(2), torch.ones(3))
    with pytest.raises(ShapeMismatch, match=r"found shapes \(2, 2\) and \(3, 3\)"):
        movement(torch.eye(2), torch.eye(3))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "MOST", 120)
    check_size(4, 30)
    with pytest.raises(
        ModelError, match=r"5 examples and 30 parameters holds 150 numbers at once, more than 120; take 4 examples or fewer"
    ):
        check_size(5, 30)
    with pytest.raises(ModelError, match="of 4 examples and 43 parameters"):
        tangent_kernel(net(), torch.zeros(4, 4, dtype=torch.float64))
