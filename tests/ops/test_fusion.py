"""One feature from several, by hand."""

from __future__ import annotations

import math

import torch

from limbeck.ops.fusion import scaled_sum


def test_scaled_sum_by_hand():
    sources = torch.tensor([[[1.0, 2.0], [10.0, 20.0]], [[0.0, 1.0], [5.0, 5.0]]])
    one, each = torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    assert scaled_sum(sources, one).tolist() == [[31.0, 62.0], [15.0, 16.0]]
    assert scaled_sum(sources, each).tolist() == [[31.0, 40.0], [15.0, 10.0]]
    assert scaled_sum(sources, one, normalise="mean").tolist() == [[7.75, 15.5], [3.75, 4.0]]
    assert scaled_sum(sources, each, normalise="mean")[0].tolist() == [7.75, 20.0]
    shares = torch.tensor([[0.0], [math.log(3)]])
    torch.testing.assert_close(scaled_sum(sources, shares, normalise="softmax")[0], torch.tensor([7.75, 15.5]))
