"""Soft prompts by themselves: where each number of the weight ends up, how it begins, dropout, and their length in a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.ops.soft_prompt import SoftPrompt, prompt_length

LENGTH, LAYERS, HEADS, WIDTH = 3, 2, 4, 5


def prompt(**options: float) -> SoftPrompt:
    torch.manual_seed(0)
    return SoftPrompt(LENGTH, LAYERS, HEADS, WIDTH, **options)


def test_every_number_of_the_weight_by_hand():
    own = prompt()
    found = own.pairs(2)
    assert len(found) == LAYERS
    for layer, pair in enumerate(found):
        for which, tensor in enumerate(pair):
            assert tensor.shape == (2, HEADS, LENGTH, WIDTH)
            for head in range(HEADS):
                begin = ((2 * layer + which) * HEADS + head) * WIDTH
                for example in range(2):
                    assert torch.equal(tensor[example, head], own.weight[:, begin : begin + WIDTH])
    keys, values = found[1]
    (keys.sum() + 3 * values.sum()).backward()  # of both examples
    assert own.weight.grad is not None
    assert own.weight.grad[:, : 2 * HEADS * WIDTH].eq(0).all()
    assert own.weight.grad[:, 2 * HEADS * WIDTH :].flatten().unique().tolist() == [2, 6]


@pytest.mark.parametrize("spread", [1.0, 0.1])
def test_how_it_begins(spread):
    assert prompt(spread=spread).weight.std().item() == pytest.approx(spread, rel=0.15)
    torch.testing.assert_close(prompt(spread=spread).weight, prompt().weight * spread)
    assert prompt().on is True


def test_dropout_only_while_it_learns():
    own = prompt(dropout=0.5)
    torch.manual_seed(1)
    dropped = torch.stack([x for pair in own.pairs(1) for x in pair])
    share = (dropped == 0).float().mean().item()
    assert 0.3 < share < 0.7
    plain = torch.stack([x for pair in own.eval().pairs(1) for x in pair])
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * plain[kept])
    assert (prompt().pairs(1)[0][0] != 0).all()


def test_the_length_of_a_model():
    assert prompt_length(nn.Linear(2, 2)) == 0
    assert prompt_length(nn.Sequential(nn.Linear(2, 2), prompt())) == LENGTH
