"""How badly a model predicts each example."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import DataError
from limbeck.evaluate.surprise import surprise
from limbeck.tokens import Hidden, Projection
from limbeck.types import Batch, Signals


def test_of_classes():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    batch = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.arange(2))
    assert surprise(Signals(logits), batch).tolist() == pytest.approx([math.log(4 / 3), math.log(2)])


@pytest.mark.parametrize("as_logits", [False, True])
def test_of_tokens_is_the_mean_over_the_trained_ones_of_each_example(as_logits: bool):
    hidden = torch.tensor([[math.log(3.0)], [0.0], [math.log(7.0)]])
    head = Projection(torch.tensor([[1.0], [0.0]]))
    inputs = {"input_ids": torch.zeros(3, 4, dtype=torch.int64)}
    batch = Batch(inputs, torch.tensor([0, 1, 1]), torch.tensor([7, 8, 9]), rows=torch.tensor([1, 2, 9]))
    said = Signals(hidden @ head.weight.T) if as_logits else Signals(tokens=Hidden(hidden, head))
    found = surprise(said, batch)
    assert found.dtype == torch.float64
    assert found[[0, 2]].tolist() == pytest.approx([(math.log(4 / 3) + math.log(2)) / 2, math.log(8)])
    assert found[1].isnan()


@pytest.mark.parametrize("labels", [None, torch.zeros(2), torch.zeros(2, 2, dtype=torch.int64)])
def test_needs_classes(labels: torch.Tensor | None):
    with pytest.raises(DataError, match="labels that are classes or tokens"):
        surprise(Signals(torch.zeros(2, 2)), Batch(torch.zeros(2, 1), labels, torch.arange(2)))
