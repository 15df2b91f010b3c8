"""SKT's cosine: value by hand, an oracle by loops, dead pixels, what is learned, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.skt_cosine import SKTCosine, pixel_cosine_distance
from limbeck.types import Signals


def test_value_by_hand():
    """Right angle, opposite, equal but for length, 60 degrees."""
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    teacher = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [0.0, 5.0], [0.5, math.sqrt(0.75)]])
    maps = [x.T.reshape(1, 2, 2, 2) for x in (student, teacher)]
    assert pixel_cosine_distance(*maps).item() == pytest.approx(1 + 2 + 0 + 0.5)


def test_oracle_and_sum_over_layers(draw):
    (s1,), (t1,), (s2,), (t2,) = (
        draw(2, 3, 2, 2, count=1),
        draw(2, 3, 2, 2, count=1, seed=4),
        draw(2, 5, 1, 3, count=1),
        draw(2, 5, 1, 3)[1:],
    )
    got = SKTCosine()(Signals.of(s1, s2), Signals.of(t1, t2))
    for b in range(2):
        total = 0.0
        for s, t in ((s1[b], t1[b]), (s2[b], t2[b])):
            for x, y in zip(s.flatten(1).T.tolist(), t.flatten(1).T.tolist(), strict=True):
                total += 1 - sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
        assert got[b].item() == pytest.approx(total, rel=1e-10)


def test_dead_pixels():
    """One of two vectors is zero: distance 1. Both: nothing to match. The gradient is finite."""
    student = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]).reshape(1, 2, 1, 3).requires_grad_()
    teacher = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]).reshape(1, 2, 1, 3)
    value = pixel_cosine_distance(student, teacher)
    value.sum().backward()
    assert value.item() == 2
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_one_dead_side_is_enough():
    dead, alive = torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1)
    assert pixel_cosine_distance(dead, alive).item() == 1
    assert pixel_cosine_distance(alive, dead).item() == 1


def test_close_directions_do_not_cancel():
    teacher = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    student = torch.tensor([1.0, 1e-4]).reshape(1, 2, 1, 1)
    assert pixel_cosine_distance(student, teacher).item() == pytest.approx(5e-9, rel=1e-3)


def test_learns_the_width_of_the_teacher(draw):
    (s,), (t,) = draw(2, 3, 2, 2, count=1), draw(2, 5, 2, 2, count=1)
    loss = SKTCosine()
    loss.setup(Signals.of(s), Signals.of(t))
    value = loss(Signals.of(s), Signals.of(t))
    value.sum().backward()
    assert [tuple(p.shape) for p in loss.parameters()] == [(5, 3, 1, 1), (5,)]
    assert all(p.grad.any() for p in loss.parameters())  # pyright: ignore[reportOptionalMemberAccess]
    mapped = loss.projections[0](s)
    assert (mapped >= 0).all()
    torch.testing.assert_close(value, pixel_cosine_distance(mapped, t))
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3, 2, 2\] and teacher \[2, 5, 2, 2\]"):
        SKTCosine()(Signals.of(s), Signals.of(t))


def test_needs():
    needs = SKTCosine().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "space",
        False,
    )


def test_golden():
    check_parity("skt_cosine")
