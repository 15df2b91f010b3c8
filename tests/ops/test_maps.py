"""Maps of unlike size brought together."""

from __future__ import annotations

import torch

from limbeck.ops.maps import square_pool


def test_square_pool_looks_at_the_height():
    large, small = torch.arange(32.0).reshape(1, 1, 4, 8), torch.zeros(1, 2, 2, 7)
    pooled, same = square_pool(large, small)
    expected = torch.tensor([[[[5.5, 9.5], [21.5, 25.5]]]])
    assert torch.equal(pooled, expected)
    assert same is small
    same, pooled = square_pool(small, large)
    assert torch.equal(pooled, expected)
    assert same is small


def test_what_is_left_as_it_is():
    wide, narrow, tokens = torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 4, 2), torch.zeros(1, 3, 2)
    for pair in ((wide, narrow), (wide, tokens), (tokens, wide)):
        assert all(a is b for a, b in zip(square_pool(*pair), pair, strict=True))
