"""The fused loss is the plain loss on whole logits: value and gradients."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.losses.fused.world import TOKENS, VOCABULARY, World, logits, relative
from tests.ops.test_divergence_gradients import NAMES, oracle

from limbeck.losses.fused import Hidden, Logits, Measure, Projection, fused_divergence, fused_divergences, fused_sums
from limbeck.losses.fused import chunks as chunks_module
from limbeck.losses.fused import function as function_module
from limbeck.ops.divergence_gradients import Divergence

CASES = [
    *itertools.product(NAMES, (1.0, 2.5), (1.0,), (None,), (0.0,)),
    *itertools.product(("forward", "js", "tv"), (1.0, 2.0), (0.7,), (None, 3.0), (0.0, 0.4)),
    ("forward", 1.0, 2.0, None, 0.0),
]


@pytest.mark.parametrize(("name", "temperature", "scale", "cap", "label_weight"), CASES)
@pytest.mark.parametrize("scale_by_temperature", [True, False])
def test_as_from_whole_logits(name, temperature, scale, cap, label_weight, scale_by_temperature):
    world = World.make()
    student, weight, bias = leaves = world.leaves()
    z = logits(student, weight, bias, scale, cap)
    t = logits(world.hidden, world.theirs, None, scale, cap)
    factor = (temperature if name == "tv" else temperature**2) if scale_by_temperature else 1.0
    each = factor * oracle(name, z / temperature, t / temperature, 0.3, 0.2)
    each = each + label_weight * F.cross_entropy(z, world.labels, reduction="none")
    (each * world.weights).sum().mul(1.5).backward()

    measure = Measure(
        divergence=name,
        temperature=temperature,
        mixture=0.3,
        skew=0.2,
        label_weight=label_weight,
        scale_by_temperature=scale_by_temperature,
    )
    options: dict[str, Any] = {"measure": measure, "labels": world.labels, "chunk": 5}
    teacher = Hidden(world.hidden, Projection(world.theirs, None, scale, cap))
    first, second = world.leaves(), world.leaves()
    value = fused_divergence(first[0], Projection(first[1], first[2], scale, cap), teacher, weights=world.weights, **options)
    (1.5 * value).backward()
    values = fused_divergences(second[0], Projection(second[1], second[2], scale, cap), teacher, **options)
    (1.5 * values * world.weights).sum().backward()

    torch.testing.assert_close(value, (each * world.weights).sum().detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(values, each.detach(), rtol=1e-10, atol=1e-13)
    for mine, again, expected in zip(first, second, leaves, strict=True):
        assert relative(mine.grad, expected.grad) < 1e-10
        assert relative(again.grad, expected.grad) < 1e-10


def test_defaults():
    world = World.make()
    teacher, head = Hidden(world.hidden, Projection(world.theirs)), Projection(world.weight)
    plain = oracle("forward", logits(world.student, world.weight), logits(world.hidden, world.theirs), 0.5, 0.1)
    torch.testing.assert_close(fused_divergence(world.student, head, teacher), plain.sum())
    names: tuple[Divergence, ...] = ("js", "skew_forward", "skew_reverse")
    for name in names:
        expected = oracle(name, logits(world.student, world.weight), logits(world.hidden, world.theirs), 0.5, 0.1)
        torch.testing.assert_close(fused_divergences(world.student, head, teacher, Measure(divergence=name)), expected)
    four = oracle("forward", logits(world.student, world.weight) / 2, logits(world.hidden, world.theirs) / 2, 0.5, 0.1)
    torch.testing.assert_close(fused_divergences(world.student, head, teacher, Measure(temperature=2.0)), 4 * four)


@pytest.mark.parametrize("chunk", [1, 7, 1000, None])
def test_chunks_change_nothing(chunk, monkeypatch):
    world = World.make()
    teacher = Hidden(world.hidden, Projection(world.theirs))
    head = Projection(world.weight, world.bias)
    whole = fused_divergence(world.student, head, teacher, weights=world.weights, chunk=TOKENS)
    monkeypatch.setattr(chunks_module, "CACHED", 3 * VOCABULARY)
    torch.testing.assert_close(fused_divergence(world.student, head, teacher, weights=world.weights, chunk=chunk), whole)


def test_tokens_of_weight_zero_are_not_computed():
    world = World.make()
    broken = world.student.clone()
    broken[world.weights == 0] = torch.nan
    student = broken.requires_grad_()
    value = fused_divergence(student, Projection(world.weight), Hidden(world.hidden, Projection(world.theirs)), weights=world.weights)
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert (student.grad[world.weights == 0] == 0).all()
    assert student.grad.isfinite().all()


def test_no_token_at_all():
    world = World.make()
    student, weight, _ = world.leaves()
    for tokens in (0, TOKENS):
        part = student[:tokens]
        teacher = Hidden(world.hidden[:tokens], Projection(world.theirs))
        value = fused_divergence(part, Projection(weight), teacher, weights=torch.zeros(tokens))
        value.backward()
        assert value.item() == 0
    assert weight.grad is not None
    assert (weight.grad == 0).all()


def test_a_head_that_does_not_learn_gets_no_gradient():
    world = World.make()
    student = world.student.clone().requires_grad_()
    weight = world.weight.clone()
    fused_divergence(student, Projection(weight), Hidden(world.hidden, Projection(world.theirs))).backward()
    assert student.grad is not None
    assert weight.grad is None
    teacher = world.theirs.clone().requires_grad_()
    fused_divergence(student, Projection(weight), Hidden(world.hidden, Projection(teacher))).backward()
    assert teacher.grad is None


def test_whole_logits_of_the_teacher():
    world = World.make()
    t = logits(world.hidden, world.theirs)
    kept = t.clone()
    head = Projection(world.weight)
    expected = fused_divergences(world.student, head, Hidden(world.hidden, Projection(world.theirs)), Measure(temperature=2.0))
    torch.testing.assert_close(fused_divergences(world.student, head, Logits(t), Measure(temperature=2.0)), expected)
    assert torch.equal(t, kept)


def test_tokens_outside_of_the_vocabulary():
    world = World.make()
    student, weight, bias = world.leaves()
    with torch.no_grad():
        bias[-3:] = -torch.inf
    t = logits(world.hidden, world.theirs)
    t[:, -3:] = -torch.inf
    value = fused_divergence(student, Projection(weight, bias), Logits(t))
    value.backward()
    small = fused_divergence(world.student, Projection(world.weight[:-3], world.bias[:-3]), Logits(t[:, :-3]))
    torch.testing.assert_close(value, small)
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (student, weight, bias))
    assert weight.grad is not None
    assert (weight.grad[-3:] == 0).all()


def test_weights_of_another_precision():
    world = World.make(torch.float32)
    args = (world.student, Projection(world.weight), Hidden(world.hidden, Projection(world.theirs)))
    weights = world.weights.float()
    torch.testing.assert_close(fused_divergence(*args, weights=weights.double()), fused_divergence(*args, weights=weights))
    low = (world.student.bfloat16(), Projection(world.weight.bfloat16()), Hidden(world.hidden, Projection(world.theirs)))
    third = fused_divergence(*low, weights=torch.full((TOKENS,), 1 / 3))  # which half precision would round
    torch.testing.assert_close(third, fused_divergence(*low) / 3)


@pytest.mark.parametrize("function", [fused_divergence, fused_divergences])
def test_there_is_no_gradient_of_a_gradient(function):
    world = World.make()
    leaves = world.leaves()
    value = function(leaves[0], Projection(leaves[1], leaves[2]), Hidden(world.hidden, Projection(world.theirs))).sum()
    found = torch.autograd.grad(value, leaves, create_graph=True)
    expected = torch.autograd.grad(
        function(leaves[0], Projection(leaves[1], leaves[2]), Hidden(world.hidden, Projection(world.theirs))).sum(), leaves
    )
    torch.testing.assert_close(found, expected)
    assert not any(x.requires_grad for x in found)


@pytest.mark.parametrize(("weight", "label_weight", "temperature"), itertools.product((0.0, 0.6), (0.0, 1.5), (1.0, 2.0)))
@pytest.mark.parametrize("cap", [None, 3.0])
def test_total_and_its_two_sums(weight, label_weight, temperature, cap):
    world = World.make()
    student, head, bias = leaves = world.leaves()
    z, t = logits(student, head, bias, 0.7, cap), logits(world.hidden, world.theirs)
    divergence = (world.weights * temperature**2 * oracle("forward", z / temperature, t / temperature, 0.5, 0.1)).sum()
    answers = (world.weights * F.cross_entropy(z, world.labels, reduction="none")).sum()
    expected = weight * divergence + label_weight * answers
    expected.mul(1.5).backward()
    measure = Measure(weight=weight, label_weight=label_weight, temperature=temperature)
    teachers = [Hidden(world.hidden, Projection(world.theirs)), *([] if weight else [None])]
    for teacher, chunk in itertools.product(teachers, (5, None)):
        mine = world.leaves()
        projection = Projection(mine[1], mine[2], 0.7, cap)
        total, sums = fused_sums(mine[0], projection, teacher, measure, weights=world.weights, labels=world.labels, chunk=chunk)
        total.mul(1.5).backward()
        torch.testing.assert_close(total.detach(), expected.detach(), rtol=1e-10, atol=0)
        parts = torch.stack([divergence * bool(weight), answers * bool(label_weight)]).detach()
        torch.testing.assert_close(sums, parts, rtol=1e-10, atol=0)
        assert not sums.requires_grad
        each = fused_divergences(mine[0], projection, teacher, measure, labels=world.labels, chunk=chunk)
        torch.testing.assert_close((each * world.weights).sum(), total)
        for found, right in zip(mine, leaves, strict=True):
            assert found.grad is not None
            torch.testing.assert_close(found.grad, right.grad, rtol=1e-9, atol=1e-12)


def test_what_counts_nothing_is_not_computed(monkeypatch):
    world = World.make()
    head, seen = Projection(world.weight), []
    plain = chunks_module.logits_of
    monkeypatch.setattr(chunks_module, "logits_of", lambda hidden, head, *rest: seen.append(head) or plain(hidden, head, *rest))
    theirs = Projection(torch.full_like(world.theirs, torch.nan))
    total, sums = fused_sums(world.student, head, Hidden(world.hidden, theirs), Measure(weight=0.0, label_weight=1.0), labels=world.labels)
    assert seen == [head]
    assert total.isfinite()
    seen.clear()
    total, sums = fused_sums(world.student, head, Hidden(world.hidden, theirs), Measure(weight=0.0), labels=world.labels)
    assert seen == []
    assert (total.item(), sums.tolist()) == (0.0, [0.0, 0.0])


def test_labels_that_do_not_count_are_not_read():
    world = World.make()
    teacher = Hidden(world.hidden, Projection(world.theirs))
    total, sums = fused_sums(world.student, Projection(world.weight), teacher, labels=torch.full((TOKENS,), 10**9))
    torch.testing.assert_close(total, sums[0])
    assert sums[1] == 0


def test_without_gradients_none_is_computed(monkeypatch):
    world = World.make()
    made: list[list[bool]] = []
    plain = function_module._Gradients
    monkeypatch.setattr(function_module, "_Gradients", lambda work, asked: made.append(list(asked[:3])) or plain(work, asked))
    student, weight, bias = world.leaves()
    args = (student, Projection(weight, bias), Hidden(world.hidden, Projection(world.theirs)))
    value = fused_divergence(*args)
    with torch.no_grad():
        torch.testing.assert_close(fused_divergence(*args), value.detach())
    assert made == [[True] * 3, [False] * 3]
