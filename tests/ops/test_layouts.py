"""Layouts of features."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.ops.layouts import as_map, as_positions, pooled


def test_maps_stay_and_vectors_are_one_position():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    assert as_map(x) is x
    assert torch.equal(as_map(x[:, :, 0, 0]), x[:, :, :1, :1])
    assert as_map(x.to(torch.float16)).dtype == torch.float32
    assert as_positions(x.to(torch.float16)).dtype == torch.float32


@pytest.mark.parametrize(("leading", "side"), [(0, 1), (1, 1), (2, 1), (0, 4), (1, 4), (2, 4), (5, 4)])
def test_tokens_are_a_grid_behind_leading_tokens(leading, side):
    grid = torch.randn(2, 3, side, side)
    tokens = torch.cat([torch.zeros(2, leading, 3), grid.flatten(2).mT], 1)
    assert torch.equal(as_map(tokens), grid)


@pytest.mark.parametrize("tokens", [0, 7, 12])
def test_tokens_without_grid(tokens):
    text = rf"^{tokens} tokens form no square grid, with 0, 1, 2 or 5 tokens before it; tap a layer that gives a map\.$"
    with pytest.raises(ShapeMismatch, match=text):
        as_map(torch.zeros(2, tokens, 3))


def test_positions():
    x = torch.randn(2, 3, 4, 5)
    flat = x.flatten(2)
    assert torch.equal(as_positions(x), flat)
    assert torch.equal(as_positions(flat.mT), flat)
    assert torch.equal(as_positions(x[:, :, 0, 0]), x[:, :, 0, :1])


def test_pooled_is_the_mean_over_positions():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]]])
    for layout in (x, x.flatten(2).mT):
        assert pooled(layout).tolist() == [[3.0, 1.0]]
    vectors = torch.tensor([[1.0, 5.0]])
    assert pooled(vectors) is vectors
    for half in (x.half(), vectors.half()):
        assert pooled(half).dtype == torch.float32
