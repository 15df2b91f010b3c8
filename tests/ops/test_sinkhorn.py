"""Transport plans."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.sinkhorn import transport_plan


def naive(cost, epsilon, rounds):
    plan = [[math.exp(-c / epsilon) for c in row] for row in cost.tolist()]
    for _ in range(rounds):
        plan = [[x / sum(row) for x in row] for row in plan]
        sums = [sum(column) for column in zip(*plan, strict=True)]
        plan = [[x / s for x, s in zip(row, sums, strict=True)] for row in plan]
    return torch.tensor(plan, dtype=torch.float64)


@pytest.mark.parametrize("rounds", [1, 2, 20])
def test_oracle(rounds):
    cost = 2 * torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(transport_plan(cost, epsilon=0.3, rounds=rounds), naive(cost, 0.3, rounds))


def test_sums():
    cost = 2 * torch.rand(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    plan = transport_plan(cost, epsilon=0.1, rounds=200)
    torch.testing.assert_close(plan.sum(0), torch.ones(6).double())
    torch.testing.assert_close(plan.sum(1), torch.ones(6).double(), rtol=1e-6, atol=1e-6)
    rough = transport_plan(cost, epsilon=0.1, rounds=1)
    torch.testing.assert_close(rough.sum(0), torch.ones(6).double())
    assert (rough.sum(1) - 1).abs().max() > 1e-3


def test_the_cheapest_permutation_is_found_as_the_entropy_fades():
    cost = torch.ones(4, 4)
    cost[torch.arange(4), torch.tensor([2, 0, 3, 1])] = 0
    plan = transport_plan(cost, epsilon=0.03, rounds=20)
    torch.testing.assert_close(plan, 1 - cost)


def test_gradient():
    cost = (2 * torch.rand(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: transport_plan(c, epsilon=0.5, rounds=4), cost)


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_second_derivatives_and_backward_under_autocast(rounds):
    cost = (2 * torch.rand(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: transport_plan(c, epsilon=0.5, rounds=rounds), cost)
    assert torch.autograd.gradgradcheck(lambda c: transport_plan(c, epsilon=0.5, rounds=rounds), cost)
    rough = torch.rand(4, 4, generator=torch.Generator().manual_seed(6)).requires_grad_()
    found: list[torch.Tensor] = []
    for lowered in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered):
            found += torch.autograd.grad(transport_plan(rough, epsilon=0.5, rounds=rounds)[0, 0], rough)
    assert torch.equal(*found)


def test_rounds_cost_no_memory_of_the_size_of_the_cost():
    kept = {}
    for rounds in (1, 50):
        pointers = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda x, p=pointers: (p.__setitem__(x.data_ptr(), x.numel()), x)[1], lambda x: x):
            transport_plan(torch.rand(64, 64, requires_grad=True), epsilon=0.1, rounds=rounds)
        kept[rounds] = sum(pointers.values())
    assert kept[50] - kept[1] < 49 * 64 * 10


def test_half_precision_is_widened_and_autocast_left_alone():
    cost = torch.rand(4, 4, generator=torch.Generator().manual_seed(4))
    assert transport_plan(cost.bfloat16(), epsilon=0.1, rounds=2).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plan = transport_plan(cost, epsilon=0.1, rounds=2)
    torch.testing.assert_close(plan, transport_plan(cost, epsilon=0.1, rounds=2))
