"""Embeddings of length 1 and the memory of them: both ways to compare, the momentum, gradients after a move."""

from __future__ import annotations

import pytest
import torch

from limbeck.losses._memory import Memory, UnitLinear


def test_memory_begins_with_different_directions():
    vectors = Memory(5, 3).vectors
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    assert torch.corrcoef(vectors).tril(-1).abs().max() < 0.9999
    assert list(Memory(5, 3).state_dict()) == ["vectors"]


@pytest.mark.parametrize("examples", [9, 16, 17, 40])
@pytest.mark.parametrize("chunk", [1, 2, 3, 9])
def test_products_by_hand_and_their_gradient_after_a_move(examples, chunk):
    """Two rows a comparison: up to 16 vectors all are compared, of more than that copies are made."""
    memory = Memory(examples, 4).double()
    before = memory.vectors.clone()
    own = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([[0, 3], [8, 8], [5, 0]])
    got = memory.products(own, rows, chunk=chunk)
    expected = [[float(own[i].detach() @ before[j]) for j in row] for i, row in enumerate(rows.tolist())]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))
    memory.follow(own, rows, momentum=0.25, chunk=chunk)
    weights = torch.randn(3, 2, dtype=torch.float64)
    (got * weights).sum().backward()
    torch.testing.assert_close(own.grad, (weights.unsqueeze(2) * before[rows]).sum(1))


@pytest.mark.parametrize("examples", [9, 40])
def test_follow_by_hand(examples):
    memory = Memory(examples, 2)
    memory.vectors[3], memory.vectors[1] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    before = memory.vectors.clone()
    values = torch.tensor([[0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    memory.follow(values, torch.tensor([[3, 1], [1, 0]]), momentum=0.75, chunk=9)
    expected = torch.tensor([0.75, 0.25]) / 0.625**0.5
    torch.testing.assert_close(memory.vectors[3], expected)
    torch.testing.assert_close(memory.vectors[1], torch.tensor([0.0, 1.0]))
    rest = [i for i in range(examples) if i not in (1, 3)]
    assert torch.equal(memory.vectors[rest], before[rest])
    assert not memory.vectors.requires_grad


def storages(examples, batch, chunk):
    memory = Memory(examples, 2)
    first = memory.vectors.data_ptr()
    memory.follow(torch.randn(batch, 2), torch.zeros(batch, 2, dtype=torch.int64), momentum=0.5, chunk=chunk)
    return memory.vectors.data_ptr() == first


def test_a_large_memory_moves_in_place_where_nothing_is_computed_again():
    assert storages(17, 2, chunk=2)
    assert not storages(17, 3, chunk=2)
    assert not storages(16, 2, chunk=2)


def test_products_hold_no_more_than_the_smaller_way():
    def largest(examples):
        sizes = [0]
        with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
            Memory(examples, 4).products(torch.randn(8, 4, requires_grad=True), torch.zeros(8, 3, dtype=torch.int64), chunk=8)
        return max(sizes)

    assert largest(1000) == 8 * 3 * 4
    assert largest(24) == 8 * 24


def test_unit_linear():
    layer = UnitLinear(3, 5)
    maps = torch.randn(2, 3, 4, 4)
    expected = torch.nn.functional.normalize(torch.nn.functional.linear(maps.mean((2, 3)), layer.weight, layer.bias))
    torch.testing.assert_close(layer(maps), expected)
    torch.testing.assert_close(layer(maps.flatten(2).mT), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(maps), expected)


def test_autocast_does_not_touch_the_products():
    own, rows = torch.randn(2, 8), torch.tensor([[0, 1], [2, 3]])
    for examples in (5, 50):
        memory = Memory(examples, 8)
        expected = memory.products(own, rows, chunk=9)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(memory.products(own, rows, chunk=9), expected)
