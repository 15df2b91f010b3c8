"""The fused loss in half precision, far from the teacher, and in little memory."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.losses.fused.world import WIDTH, World, logits, relative
from tests.ops.test_divergence_gradients import NAMES, oracle

from limbeck.losses.fused import Hidden, Logits, Measure, Projection, fused_divergence, fused_divergences
from limbeck.losses.fused import chunks as chunks_module
from limbeck.losses.fused import function as function_module
from limbeck.ops import products


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


def rows_of_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each chunk has, of what is computed after this call."""
    made: list[int] = []
    plain = function_module.chunk_values
    monkeypatch.setattr(function_module, "chunk_values", lambda hidden, *args: made.append(len(hidden)) or plain(hidden, *args))
    return made


def test_the_logits_are_never_held(monkeypatch):
    made = rows_of_chunks(monkeypatch)
    hidden = torch.randn(1024, 4)
    fused_divergence(hidden, Projection(torch.randn(2000, 4)), Hidden(hidden, Projection(torch.randn(2000, 4))))
    assert made == [256] * 4


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "dtype", "expected"),
    [
        (120, 10, torch.float32, [30] * 4),  # a quarter of them
        (130, 10, torch.float32, [26] * 5),  # as even as they can be cut
        (60, 10, torch.float32, [20] * 3),  # the fewest
        (400, 50, torch.float32, [40] * 10),  # the most bytes
        (400, 50, torch.bfloat16, [40] * 10),  # computed in float32
        (400, 50, torch.float64, [25] * 16),
        (0, 10, torch.float32, []),
        (400, 300, torch.float32, [25] * 16),  # enough of them, whatever they take
        (80, 300, torch.float32, [20] * 4),  # but no more than a quarter
    ],
)
def test_how_many_tokens_a_chunk_has(tokens, vocabulary, dtype, expected, monkeypatch):
    sizes = (function_module.BYTES, function_module.SHARE, function_module.FEWEST, function_module.ENOUGH)
    assert sizes == (32 * 2**20, 4, 128, 256)
    monkeypatch.setattr(function_module, "ENOUGH", 25)
    monkeypatch.setattr(function_module, "BYTES", 8000)
    monkeypatch.setattr(function_module, "FEWEST", 20)
    made = rows_of_chunks(monkeypatch)
    head, hidden = Projection(torch.randn(vocabulary, 2).to(dtype)), torch.randn(tokens, 2).to(dtype)
    fused_divergence(hidden, head, Hidden(hidden, head))
    assert made == expected


def test_few_rows_are_worked_on_at_once(monkeypatch):
    seen: list[int] = []
    plain = chunks_module._rows_in_place
    monkeypatch.setattr(chunks_module, "_rows_in_place", lambda values, *args: seen.append(values.shape[1]) or plain(values, *args))
    monkeypatch.setattr(chunks_module, "CACHED", 100)
    for vocabulary in (10, 20, 40, 100, 101):
        head, hidden = Projection(torch.randn(vocabulary, 2)), torch.randn(5, 2)
        fused_divergence(hidden, head, Hidden(hidden, head))
    assert seen == [5, 5, 2, 2, 1, *[1] * 5, *[1] * 5]


def test_blocks_of_a_head_in_half_precision_change_nothing(monkeypatch):
    world = World.make(torch.bfloat16)
    args = (world.student, Projection(world.weight), Hidden(world.hidden, Projection(world.theirs)))
    found = []
    for size in (1000, 7):
        monkeypatch.setattr(products, "BLOCK", size)
        student, weight, _ = world.leaves()
        value = fused_divergence(student, Projection(weight), *args[2:])
        value.backward()
        found.append((value.detach(), student.grad, weight.grad))
    torch.testing.assert_close(*found)


def test_what_multiplies_changes_nothing(monkeypatch):
    world = World.make(torch.float32)
    for width in (WIDTH, WIDTH - 1):
        args = (world.student[:, :width], Projection(world.weight[:, :width]), Hidden(world.hidden, Projection(world.theirs)))
        first = fused_divergence(*args)
        with monkeypatch.context() as patch:
            patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
            torch.testing.assert_close(fused_divergence(*args), first)


def test_only_gradients_that_are_asked_for_are_computed():
    world = World.make()
    work: Any = SimpleNamespace(student=world.student, head=Projection(world.weight, world.bias))
    for asked in itertools.product((True, False), (True, False), (True, False)):
        assert [x is not None for x in function_module._Gradients(work, asked).all()] == list(asked)
    work.head = Projection(world.weight)
    assert function_module._Gradients(work, (True, True, True)).all()[2] is None


def test_logits_of_a_teacher_in_half_precision():
    world = World.make(torch.float32)
    low = logits(world.hidden, world.theirs).bfloat16()
    args = (world.student, Projection(world.weight))
    torch.testing.assert_close(fused_divergence(*args, Logits(low)), fused_divergence(*args, Logits(low.float())))
