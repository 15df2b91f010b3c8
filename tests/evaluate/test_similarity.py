"""Linear CKA."""

import numpy as np
import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.evaluate.similarity import StreamedCKA, cka_matrix, linear_cka


def reference(x, y):
    """The definition by centring matrices and traces."""
    x, y = x.reshape(len(x), -1).astype(np.float64), y.reshape(len(y), -1).astype(np.float64)
    h = np.eye(len(x)) - 1 / len(x)
    k, m = h @ x @ x.T @ h, h @ y @ y.T @ h
    return np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))


@pytest.mark.parametrize(("n", "a", "b"), [(50, 6, 9), (8, 30, 5), (8, 20, 30), (40, 39, 50)])
def test_definition_in_both_forms(n, a, b):
    x, y = torch.randn(n, a), torch.randn(n, b)
    y[:, :3] += x[:, :3]
    assert linear_cka(x, y) == pytest.approx(reference(x.numpy(), y.numpy()))
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))


def test_identity_rotation_scale_and_shift():
    x = torch.randn(100, 10, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64))
    assert linear_cka(x, x) == pytest.approx(1.0)
    assert linear_cka(x, 7 * x @ rotation + 1e3) == pytest.approx(1.0)
    assert linear_cka(x, x @ torch.randn(10, 10, dtype=torch.float64)) < 0.999  # not invariant to any linear map


def test_unrelated_features_are_far():
    assert linear_cka(torch.randn(4000, 5), torch.randn(4000, 5)) < 0.02


def test_constant_features_have_none():
    assert linear_cka(torch.ones(10, 3), torch.randn(10, 3)) == 0.0


def test_maps_are_flattened():
    x = torch.randn(12, 3, 4, 4)
    assert linear_cka(x, x.flatten(1)) == pytest.approx(1.0)


def test_streaming_equals_all_at_once():
    x, y = torch.randn(103, 6) + 1e4, torch.randn(103, 4)
    y += x[:, :4] - 1e4
    stream = StreamedCKA(6, 4)
    for part in (slice(0, 10), slice(10, 11), slice(11, 11), slice(11, 60), slice(60, None)):
        stream.update(x[part], y[part])
    assert stream.count == 103
    assert stream.compute() == pytest.approx(linear_cka(x, y), rel=1e-9)


def test_matrix_and_mismatch():
    x = [torch.randn(20, 4), torch.randn(20, 5)]
    table = cka_matrix(x, [*x, torch.randn(20, 2)])
    assert np.shape(table) == (2, 3)
    assert (table[0][0], table[1][1]) == pytest.approx((1.0, 1.0))
    with pytest.raises(ShapeMismatch, match="found 20 and 19"):
        linear_cka(x[0], x[1][:19])
