"""The fused loss in half precision, far from the teacher, and in little memory."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.losses.fused.world import World, relative
from tests.ops.test_divergence_gradients import NAMES, oracle

from limbeck.losses.fused import Hidden, Measure, Projection, fused_divergence, fused_divergences
from limbeck.losses.fused import chunks as chunks_module
from limbeck.losses.fused import function as function_module


def test_half_precision_close_to_the_teacher():
    g = torch.Generator().manual_seed(5)
    hidden, weight = torch.randn(64, 128, generator=g).bfloat16(), (0.3 * torch.randn(4096, 128, generator=g)).bfloat16()
    theirs = (weight.float() + 0.01 * torch.randn(4096, 128, generator=g)).bfloat16()
    exact_h, exact_w = hidden.double().requires_grad_(), weight.double().requires_grad_()
    exact = oracle("forward", exact_h @ exact_w.T, hidden.double() @ theirs.double().T, 0.5, 0.1).sum()
    exact.backward()
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    value = fused_divergence(h, Projection(w), Hidden(hidden, Projection(theirs)))
    value.backward()
    assert exact / 64 < 0.02
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-3)
    assert w.grad is not None
    assert w.grad.dtype == torch.bfloat16
    assert relative(w.grad, exact_w.grad) < 0.005
    assert relative(h.grad, exact_h.grad) < 0.005


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_under_autocast_products_stay_exact(dtype):
    world = World.make(torch.float32)
    args = (world.student, Projection(world.weight), Hidden(world.hidden, Projection(world.theirs)))
    expected = fused_divergence(*args)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(fused_divergence(*args), expected)
    found, plain = world.leaves()[0], world.leaves()[0]
    fused_divergences(plain, *args[1:]).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = fused_divergences(found, *args[1:])
        torch.testing.assert_close(values.sum(), expected)
        values.sum().backward()
    torch.testing.assert_close(found.grad, plain.grad)
    low = (world.student.to(dtype), Projection(world.weight.to(dtype)), Hidden(world.hidden.to(dtype), Projection(world.theirs.to(dtype))))
    assert fused_divergence(*low).item() == pytest.approx(expected.item(), rel=0.05)


def test_large_logits_are_finite():
    world = World.make(torch.float32)
    student = (1e4 * world.student).requires_grad_()
    for name in NAMES:
        value = fused_divergence(
            student, Projection(world.weight), Hidden(1e4 * world.hidden, Projection(world.theirs)), Measure(divergence=name)
        )
        value.backward()
        assert value.isfinite()
        assert student.grad is not None
        assert student.grad.isfinite().all()


def test_the_logits_are_never_held(monkeypatch):
    made: list[int] = []
    plain = chunks_module.Buffers.__init__

    def noted(self: Any, rows: int, vocabulary: int, *args: Any, **kwargs: Any) -> None:
        made.append(rows)
        plain(self, rows, vocabulary, *args, **kwargs)

    monkeypatch.setattr(chunks_module.Buffers, "__init__", noted)
    hidden = torch.randn(1024, 4)
    fused_divergence(hidden, Projection(torch.randn(2000, 4)), Hidden(hidden, Projection(torch.randn(2000, 4))))
    assert made == [128]


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "dtype", "expected"),
    [
        (240, 10, torch.float32, 30),  # an eighth of them
        (250, 10, torch.float32, 28),  # as even as they can be cut
        (160, 10, torch.float32, 20),  # the fewest
        (1600, 50, torch.float32, 40),  # the largest buffer
        (1600, 50, torch.bfloat16, 40),  # computed in float32
        (1600, 50, torch.float64, 20),
        (0, 10, torch.float32, 0),
    ],
)
def test_how_many_tokens_a_chunk_has(tokens, vocabulary, dtype, expected, monkeypatch):
    assert (function_module.BYTES, function_module.SHARE, function_module.FEWEST) == (64 * 2**20, 8, 128)
    monkeypatch.setattr(function_module, "BYTES", 8000)
    monkeypatch.setattr(function_module, "FEWEST", 20)
    made = []
    plain = chunks_module.Buffers
    monkeypatch.setattr(
        function_module, "Buffers", lambda rows, *args, **words: made.append((rows, words["rooms"])) or plain(rows, *args, **words)
    )
    head, hidden = Projection(torch.randn(vocabulary, 2).to(dtype)), torch.randn(tokens, 2).to(dtype)
    fused_divergence(hidden, head, Hidden(hidden, head))
    assert made == [(expected, 2)]
    made.clear()
    capped, labels = Projection(head.weight, None, 1.0, 5.0), torch.zeros(tokens, dtype=torch.long)
    fused_divergence(hidden, capped, Hidden(hidden, head), Measure(label_weight=1.0), labels=labels)
    fused_divergence(hidden, capped, Hidden(hidden, head))
    fused_divergence(hidden, head, Hidden(hidden, head), Measure(label_weight=1.0), labels=labels)
    assert [rooms for _, rooms in made] == [4, 3, 3]


def test_buffers(monkeypatch):
    monkeypatch.setattr(chunks_module, "CACHED", 100)
    make = chunks_module.Buffers
    cpu = torch.empty(0)
    assert [make(5, n, cpu, torch.float64, teacher=True, rooms=1).step for n in (10, 20, 40, 100, 101)] == [5, 5, 2, 1, 1]
    some = make(5, 40, cpu, torch.float64, teacher=True, rooms=2)
    assert [x.shape for x in (some.student, some.teacher, *some.rooms)] == [(5, 40), (5, 40), (2, 40), (2, 40)]
    assert some.teacher is not some.student
    assert some.student.dtype == torch.float64
    other = make(5, 40, torch.empty(0, device="meta"), torch.float32, teacher=False, rooms=1)
    assert (other.step, other.student.device.type) == (5, "meta")
    assert other.teacher is other.student


def test_blocks_of_a_head_in_half_precision_change_nothing(monkeypatch):
    world = World.make(torch.bfloat16)
    args = (world.student, Projection(world.weight), Hidden(world.hidden, Projection(world.theirs)))
    whole = fused_divergence(*args)
    monkeypatch.setattr(chunks_module, "BLOCK", 7)
    torch.testing.assert_close(fused_divergence(*args), whole)


def test_only_gradients_that_are_asked_for_are_computed():
    world = World.make()
    work: Any = SimpleNamespace(student=world.student, head=Projection(world.weight, world.bias))
    for asked in itertools.product((True, False), (True, False), (True, False)):
        assert [x is not None for x in function_module._Gradients(work, asked).all()] == list(asked)
    work.head = Projection(world.weight)
    assert function_module._Gradients(work, (True, True, True)).all()[2] is None
