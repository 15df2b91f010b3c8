"""Perceptrons on features of any layout."""

from __future__ import annotations

import torch
from torch import nn

from limbeck.losses._perceptron import Perceptron


def test_layers():
    assert [type(layer) for layer in Perceptron(3, 4, 5, 2)] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(layer.weight.shape) for layer in Perceptron(3, 4, 2) if isinstance(layer, nn.Linear)] == [(4, 3), (2, 4)]


def test_positions_are_averaged_first():
    network, maps = Perceptron(3, 4, 2), torch.randn(2, 3, 4, 4)
    expected = nn.Sequential(*network)(maps.mean((2, 3)))
    torch.testing.assert_close(network(maps), expected)
    torch.testing.assert_close(network(maps.flatten(2).mT), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(network(maps), expected)
