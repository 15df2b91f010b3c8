"""The fused loss with teachers of which not all is known: likeliest tokens and samples."""

from __future__ import annotations

import pytest
import torch
from tests.losses.fused.world import TOKENS, VOCABULARY, World, logits, relative
from tests.ops.test_divergence_gradients import NAMES, oracle
from torch import Tensor

from limbeck.losses.fused import Hidden, Logits, Measure, Projection, Sampled, TopK, fused_divergence, fused_divergences
from limbeck.losses.fused import chunks as chunks_module
from limbeck.tokens import part_of, rows_of


def coarse(z: Tensor, ids: Tensor) -> Tensor:
    """Logits of the kept tokens, and of all others as one."""
    rest = z.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([z.gather(1, ids), rest], 1)


@pytest.mark.parametrize("name", NAMES)
def test_top_k_is_the_divergence_with_the_rest_as_one(name):
    world = World.make()
    student, weight, _ = leaves = world.leaves()
    z, t = logits(student, weight), logits(world.hidden, world.theirs)
    log_p, ids = t.log_softmax(-1).topk(6)
    expected = oracle(name, coarse(z, ids), coarse(t, ids), 0.3, 0.2)
    (expected * world.weights).sum().backward()
    mine = world.leaves()
    measure = Measure(divergence=name, mixture=0.3, skew=0.2)
    value = fused_divergence(mine[0], Projection(mine[1]), TopK(ids, log_p), measure, weights=world.weights, chunk=4)
    value.backward()
    torch.testing.assert_close(value, (expected * world.weights).sum().detach())
    for found, right in zip(mine[:2], leaves[:2], strict=True):
        assert relative(found.grad, right.grad) < 1e-9


def test_top_k_of_nearly_all_the_mass():
    z = torch.zeros(1, 4)
    teacher = TopK(torch.tensor([[2]]), torch.tensor([[0.0]]))  # wholly sure: nothing is left for the rest
    value = fused_divergence(z, Projection(torch.eye(4)), teacher)
    assert value.item() == pytest.approx(1.3862944, rel=1e-6)
    x = torch.tensor([-1e-20, -1e-9, -0.5, -0.7, -30.0, 0.0], dtype=torch.float64)
    exact = [-46.0517018, -20.7232658, -0.93275213, -0.68634100, -9.3576e-14, chunks_module.LEAST]
    torch.testing.assert_close(chunks_module.log_one_minus_exp(x), torch.tensor(exact, dtype=torch.float64), rtol=1e-4, atol=0)


def test_chunks_change_nothing_for_teachers_of_which_not_all_is_known(monkeypatch):
    world = World.make()
    log_p, ids = logits(world.hidden, world.theirs).log_softmax(-1).topk(6)
    teachers = [TopK(ids, log_p), Sampled(ids, log_p.softmax(-1)), Logits(logits(world.hidden, world.theirs))]
    whole = [fused_divergences(world.student, Projection(world.weight), teacher) for teacher in teachers]
    monkeypatch.setattr(chunks_module, "CACHED", 3 * VOCABULARY)
    for teacher, expected in zip(teachers, whole, strict=True):
        torch.testing.assert_close(fused_divergences(world.student, Projection(world.weight), teacher, chunk=7), expected)


def test_stored_numbers_in_half_precision():
    world = World.make(torch.float32)
    log_p, ids = logits(world.hidden, world.theirs).log_softmax(-1).topk(6)
    few = log_p.half()
    for narrow, wide in (
        (TopK(ids, few), TopK(ids, few.float())),
        (Sampled(ids, few.softmax(-1)), Sampled(ids, few.softmax(-1).float())),
    ):
        found, expected = world.student.clone().requires_grad_(), world.student.clone().requires_grad_()
        values = [fused_divergence(x, Projection(world.weight), t) for x, t in ((found, narrow), (expected, wide))]
        torch.testing.assert_close(*values)
        for value in values:
            value.backward()
        torch.testing.assert_close(found.grad, expected.grad)


def test_weights_of_samples_count_as_they_are():
    """They sum to 1 up to rounding; the gradient is that of the value also where they do not."""
    world = World.make()
    ids = torch.randint(0, VOCABULARY, (TOKENS, 5), generator=torch.Generator().manual_seed(1))
    weights = torch.rand(TOKENS, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mine, plain = world.student.clone().requires_grad_(), world.student.clone().requires_grad_()
    value = fused_divergence(mine, Projection(world.weight), Sampled(ids, weights))
    value.backward()
    expected = -(weights * logits(plain, world.weight).log_softmax(-1).gather(1, ids)).sum()
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(mine.grad, plain.grad)


def test_samples_estimate_the_cross_entropy_without_bias():
    world = World.make()
    student, weight, _ = leaves = world.leaves()
    p = logits(world.hidden, world.theirs).softmax(-1)
    (-(p * logits(student, weight).log_softmax(-1)).sum()).backward()
    ids = torch.multinomial(p, 4000, replacement=True, generator=torch.Generator().manual_seed(3))
    mine = world.leaves()
    value = fused_divergence(mine[0], Projection(mine[1]), Sampled(ids, torch.full(ids.shape, 1 / 4000)))
    value.backward()
    assert relative(mine[1].grad, leaves[1].grad) < 0.05
    exact = -(logits(world.student, world.weight).log_softmax(-1).gather(1, ids)).mean(1).sum()
    torch.testing.assert_close(value, exact)


def test_part_of_a_teacher():
    ids, numbers, some = torch.arange(6).view(3, 2), torch.rand(3, 2), torch.tensor([2, 0])
    for kind in (TopK, Sampled):
        assert all(torch.equal(x, y[some]) for x, y in zip(rows_of(part_of(kind(ids, numbers), some)), (ids, numbers), strict=True))
    assert torch.equal(rows_of(part_of(Logits(numbers), slice(1, 3)))[0], numbers[1:])
    head = Projection(numbers)
    assert part_of(Hidden(numbers, head), some).head is head  # pyright: ignore[reportAttributeAccessIssue]
