"""Logits of a large model, moved as training has moved smaller ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbeck.ops.divergence import kl
from limbeck.ops.fusion import found_weights, moved, scaled_sum


def draws(count: int, rows: int = 5, classes: int = 7, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64) for _ in range(count)]


def objective(large: Tensor, moves: list[tuple[Tensor, Tensor]], number: int, weight: float) -> Tensor:
    """By its definition."""
    after, before = moves[number]
    there = large + weight * (after - before)
    parts = [(kl(there, large) - kl(a, b)).square() + (kl(large, there) - kl(b, a)).square() for a, b in moves]
    return torch.stack(parts).sum(0)


def test_a_fixed_weight_by_hand() -> None:
    large, after, before = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    weights = torch.tensor([[0.5]])
    assert moved(large, [(after, before)], weights).tolist() == [[2.0, 1.5]]
    assert moved(large, [(after, before), (before, after)], torch.tensor([[0.5], [0.25]])).tolist() == [[1.5, 1.75]]
    assert moved(large, [], weights[:0]).tolist() == [[1.0, 2.0]]


def test_a_large_model_that_is_the_small_one_becomes_the_expert() -> None:
    """The objective is 0 at the weight 1, where what is moved says what the expert says."""
    before, after = draws(2)
    weights = found_weights(before, [(after, before)])
    assert torch.allclose(weights, torch.ones(1, 5, dtype=torch.float64))
    assert torch.allclose(moved(before, [(after, before)], weights), after)


def test_an_expert_that_has_learnt_nothing_moves_nothing() -> None:
    large, before = draws(2)
    assert found_weights(large, [(before, before)]).tolist() == [[0.0] * 5]  # of equals the smallest


def test_the_best_of_all_weights() -> None:
    large, after, before = draws(3)
    found = found_weights(large, [(after, before)])[0]
    grid = [number / 100 for number in range(201)]
    values = torch.stack([objective(large, [(after, before)], 0, weight) for weight in grid])
    least = values.min(0).values
    reached = torch.stack(
        [objective(large[i : i + 1], [(after[i : i + 1], before[i : i + 1])], 0, float(w))[0] for i, w in enumerate(found)]
    )
    assert torch.allclose(reached, least, rtol=1e-9, atol=1e-12)
    assert ((found * 100 - (found * 100).round()).abs() < 1e-9).all()
    assert len(found.unique()) > 1


def test_weights_stay_between_0_and_2() -> None:
    large, after, before = draws(3)
    assert found_weights(0 * large, [(10 * after, 10 * before)]).amax() <= 2
    assert (found_weights(large, [(after, after + 0.001 * before)]) >= 0).all()
    uniform = torch.zeros(1, 2, dtype=torch.float64)
    weak = torch.tensor([[0.1, 0.0]], dtype=torch.float64)
    assert found_weights(torch.tensor([[9.0, 0.0]], dtype=torch.float64), [(weak, uniform)]).tolist() == [[2.0]]  # would want more


def test_of_several_moves_one_is_used() -> None:
    large, first, second, before = draws(4)
    moves = [(first, before), (second, before)]
    found = found_weights(large, moves)
    assert ((found > 0).sum(0) <= 1).all()
    grid = [number / 100 for number in range(201)]
    least = torch.stack([torch.stack([objective(large, moves, n, w) for w in grid]).min(0).values for n in range(2)])
    used = torch.where(found.sum(0) > 0, found.argmax(0), least.argmin(0))
    assert used.tolist() == least.argmin(0).tolist()
    assert set(used.tolist()) == {0, 1}


def test_a_class_that_is_ruled_out_stays_so() -> None:
    large, after, before = draws(3)
    for logits in (large, after, before):
        logits[:, 2] = -torch.inf
    weights = found_weights(large, [(after, before)])
    said = moved(large, [(after, before)], weights)
    assert weights.isfinite().all()
    assert (said[:, 2] == -torch.inf).all()
    assert said[:, [0, 1, 3]].isfinite().all()
    rest = [0, 1, 3, 4, 5, 6]
    assert torch.allclose(weights, found_weights(large[:, rest], [(after[:, rest], before[:, rest])]))


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_a_class_that_small_models_alone_rule_out_is_left_as_it_is(which: tuple[int, ...]) -> None:
    large, *move = draws(3)
    for number in which:
        move[number][:, 2] = -torch.inf
    assert torch.equal(moved(large, [(move[0], move[1])], torch.ones(1, 5))[:, 2], large[:, 2])


def test_scaled_sum_by_hand() -> None:
    sources = torch.tensor([[[1.0, 2.0], [10.0, 20.0]], [[0.0, 1.0], [5.0, 5.0]]])
    one, each = torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    assert scaled_sum(sources, one).tolist() == [[31.0, 62.0], [15.0, 16.0]]
    assert scaled_sum(sources, each).tolist() == [[31.0, 40.0], [15.0, 10.0]]
    assert scaled_sum(sources, one, normalise="mean").tolist() == [[7.75, 15.5], [3.75, 4.0]]
    assert scaled_sum(sources, each, normalise="mean")[0].tolist() == [7.75, 20.0]
    shares = torch.tensor([[0.0], [math.log(3)]])
    torch.testing.assert_close(scaled_sum(sources, shares, normalise="softmax")[0], torch.tensor([7.75, 15.5]))
