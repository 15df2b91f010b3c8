"""Reductions: the batch stays."""

from __future__ import annotations

import torch

from limbeck.ops.reduce import example_mean


def test_everything_behind_the_batch_is_averaged():
    x = torch.arange(24.0).view(2, 3, 4)
    assert example_mean(x).tolist() == [5.5, 17.5]
    assert example_mean(x[:, :, 0]).tolist() == [4.0, 16.0]


def test_what_has_one_value_an_example_stays():
    x = torch.tensor([3.0, 5.0])
    assert example_mean(x) is x
