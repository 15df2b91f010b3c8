"""Exits that losses learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.errors import SignalMissing
from limbeck.losses._exits import Exit, halvings_to, joint_labels, layers_of
from limbeck.types import IGNORE


@pytest.mark.parametrize(("halvings", "convolutions"), [(0, 1), (1, 2), (2, 4)])
def test_by_convolutions(draw, halvings, convolutions):
    layer = draw(2, 4, 8, 8)[0].float()
    exit_ = Exit(layer, width=6, outputs=5, halvings=halvings)
    assert sum(isinstance(part, nn.Conv2d) for part in exit_.modules()) == convolutions
    vector, logits = exit_(layer)
    assert (vector.shape, logits.shape) == ((2, 6), (2, 5))
    torch.testing.assert_close(logits, exit_.head(vector))


def test_halvings():
    layers = [torch.zeros(1, 2, side, side) for side in (16, 9, 4)]
    assert halvings_to(layers) == [2, 1, 0]
    assert halvings_to([torch.zeros(1, 8, 16, 5), torch.zeros(1, 2, 4, 5)]) == [2, 0]
    assert halvings_to([torch.zeros(1, 3), torch.zeros(1, 2)]) == [0, 0]
    assert halvings_to([torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 8, 8)]) == [0, 0]


def test_tokens_are_laid_out(draw):
    layer = draw(2, 17, 4)[0].float()  # a class token and a grid of four by four
    exit_ = Exit(layer, width=3, outputs=5, halvings=1)
    torch.testing.assert_close(exit_(layer)[0], exit_.body(layer[:, 1:].mT.reshape(2, 4, 4, 4)))


def test_joint_labels():
    assert joint_labels(torch.tensor([2, IGNORE, 0]), 4).tolist() == [[8, 9, 10, 11], [IGNORE] * 4, [0, 1, 2, 3]]


def test_too_few_layers():
    with pytest.raises(SignalMissing, match=r"^X needs 2 or more layers of the student, the deepest last; found \['a'\]\.$"):
        layers_of({"a": torch.zeros(1)}, 2, "X")
    with pytest.raises(SignalMissing, match="found none"):
        layers_of({}, 1, "X")
    assert len(layers_of({"a": torch.zeros(1), "b": torch.zeros(1)}, 2, "X")) == 2
