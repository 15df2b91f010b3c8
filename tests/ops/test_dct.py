"""Cosine transform: scipy's definition, lengths, inverse, frequencies."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.dct import dct2, dct_matrix, frequencies, idct2


def test_definition():
    x = torch.tensor([[1.0, 2.0, 4.0], [0.0, -1.0, 5.0]], dtype=torch.float64)
    got = dct2(x)
    for k in range(2):
        for m in range(3):
            total = sum(
                x[i, j].item() * math.cos(math.pi * k * (2 * i + 1) / 4) * math.cos(math.pi * m * (2 * j + 1) / 6)
                for i in range(2)
                for j in range(3)
            )
            scale = math.sqrt((1 if k == 0 else 2) / 2) * math.sqrt((1 if m == 0 else 2) / 3)
            assert got[k, m].item() == pytest.approx(scale * total, abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_is_orthonormal_and_begins_with_the_mean(size):
    matrix = dct_matrix(size, torch.empty(0, dtype=torch.float64))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix[0], torch.full((size,), size**-0.5, dtype=torch.float64))


def test_inverse_and_precision():
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(idct2(dct2(x)), x)
    assert dct2(x.bfloat16()).dtype == idct2(x.bfloat16()).dtype == torch.float32
    forward, back = dct2(x), idct2(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(dct2(x), forward)
        torch.testing.assert_close(idct2(x), back)


def test_the_last_two_dimensions_are_the_image():
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    for function in (dct2, idct2):
        torch.testing.assert_close(function(x), torch.stack([function(one) for one in x]))


def test_frequencies_are_the_higher_of_both_directions():
    expected = torch.tensor([[0, 0.25, 0.5, 0.75], [0.5, 0.5, 0.5, 0.75]], dtype=torch.float64)
    assert torch.equal(frequencies(2, 4, torch.empty(0, dtype=torch.float64)), expected)
