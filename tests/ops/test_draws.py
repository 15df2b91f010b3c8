"""Draws: known numbers, uniform, never one's own, a function of seed and owner alone."""

from __future__ import annotations

import pytest
import torch

from limbeck.ops.draws import other_numbers, scramble


def expected_scramble(x):
    x = (x + 0x9E3779B9) % 2**32
    x = ((x ^ (x >> 16)) * 0x45D9F3B) % 2**32
    x = ((x ^ (x >> 16)) * 0x45D9F3B) % 2**32
    return x ^ (x >> 16)


def test_scramble_by_plain_integers():
    numbers = [0, 1, 2, 77, 2**31, 2**32 - 1]
    assert scramble(torch.tensor(numbers)).tolist() == [expected_scramble(x) for x in numbers]
    assert scramble(torch.tensor(5 + 2**40)).item() == expected_scramble(5)


def test_scramble_is_a_permutation_without_order():
    found = scramble(torch.arange(2**16))
    assert found.unique().numel() == 2**16
    assert (found >= 0).all()
    assert (found < 2**32).all()
    bits = (found[:, None] >> torch.arange(32)) & 1
    assert (bits.double().mean(0) - 0.5).abs().max() < 0.02
    changed = ((scramble(torch.arange(2**16) ^ 1) ^ found)[:, None] >> torch.arange(32)) & 1
    assert (changed.double().mean(0) - 0.5).abs().max() < 0.02


def test_others_are_uniform_and_never_the_own():
    own = torch.arange(5)
    drawn = other_numbers(own, seed=torch.tensor(7), count=20000, size=5)
    assert drawn.shape == (5, 20000)
    counts = torch.stack([(drawn == value).double().mean(1) for value in range(5)], 1)
    torch.testing.assert_close(counts, (1 - torch.eye(5).double()) / 4, atol=0.015, rtol=0)
    assert not counts.diagonal().any()


def test_two_numbers_leave_one():
    assert other_numbers(torch.tensor([0, 1]), seed=torch.tensor(3), count=3, size=2).tolist() == [[1, 1, 1], [0, 0, 0]]


def test_draws_by_plain_integers():
    own, seed, size = 3, 11, 10
    stream = expected_scramble(expected_scramble(seed) ^ own)
    drawn = [expected_scramble(stream + k * 0x9E3779B9) % 9 for k in range(4)]
    expected = [value + (value >= own) for value in drawn]
    assert other_numbers(torch.tensor([own]), seed=torch.tensor(seed), count=4, size=size).tolist() == [expected]


def test_draws_depend_on_seed_and_owner_not_on_the_place():
    first = other_numbers(torch.tensor([4, 9]), seed=torch.tensor(1), count=8, size=1000)
    swapped = other_numbers(torch.tensor([9, 4]), seed=torch.tensor(1), count=8, size=1000)
    assert torch.equal(first, swapped.flip(0))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, other_numbers(torch.tensor([4, 9]), seed=torch.tensor(2), count=8, size=1000))


@pytest.mark.parametrize("pair", [(0, 1), (1, 2)])
def test_streams_are_independent(pair):
    seeds = [torch.tensor(value) for value in pair]
    a, b = (other_numbers(torch.tensor([0]), seed=seed, count=20000, size=101).double()[0] for seed in seeds)
    assert torch.corrcoef(torch.stack([a, b]))[0, 1].abs() < 0.03
    assert torch.corrcoef(torch.stack([a[1:], a[:-1]]))[0, 1].abs() < 0.03
