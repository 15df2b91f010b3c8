"""A broken peer is not heard: no value, no gradient; a broken listener hides nothing."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch

from limbeck.losses.at import AT
from limbeck.losses.base import Loss
from limbeck.losses.bdkd import BDKD
from limbeck.losses.hint import Hint
from limbeck.losses.kd import KD
from limbeck.losses.rkd import RKD
from limbeck.objective.guard import LARGEST, Guarded
from limbeck.types import Head, Signals


@pytest.fixture
def draw():
    """Two seeded float64 tensors of one shape."""

    def make(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        first, second = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
        return first, second

    return make


BROKEN = [math.nan, math.inf, -math.inf, 1e30]


def test_whole_signals_pass_unchanged(draw):
    student, teacher = (Signals(x) for x in draw(4, 5))
    assert torch.equal(Guarded(KD())(student, teacher, None), KD()(student, teacher, None))


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("loss", [KD(), BDKD()], ids=["kd", "bdkd"])
def test_a_broken_example_counts_nothing_and_the_others_as_before(draw, loss, broken):
    student, teacher = draw(4, 5)
    student.requires_grad_()
    poisoned = teacher.clone()
    poisoned[1, 2] = broken
    values = Guarded(loss)(Signals(student), Signals(poisoned), None)
    expected = loss(Signals(student), Signals(teacher), None)
    assert values[1] == 0
    kept = torch.tensor([0, 2, 3])
    torch.testing.assert_close(values[kept], expected[kept])
    values.sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad[1].eq(0).all()
    assert student.grad[kept].ne(0).any(-1).all()
    assert poisoned[1, 2].isnan() or poisoned[1, 2] == broken, "the signals themselves are not written into"


@pytest.mark.parametrize("broken", BROKEN)
def test_layers(draw, broken):
    student, teacher = draw(3, 4, 2, 2)
    student.requires_grad_()
    teacher = teacher.clone()
    teacher[2] = broken
    values = Guarded(Hint())(Signals.of(student), Signals.of(teacher), None)
    assert values[2] == 0
    assert values[:2].ne(0).all()
    values.sum().backward()
    assert student.grad is not None
    assert student.grad[2].eq(0).all()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("broken", BROKEN)
def test_layers_of_other_shapes_are_replaced_by_something_with_a_norm(draw, broken):
    student = draw(3, 4, 2, 2)[0].requires_grad_()
    teacher = torch.full((3, 7, 2, 2), broken, dtype=student.dtype)
    loss = AT()
    values = Guarded(loss)(Signals.of(student), Signals.of(teacher), None)
    assert values.eq(0).all()
    values.sum().backward()
    assert student.grad is not None
    assert student.grad.eq(0).all()


def test_a_quantity_of_the_batch_counts_nothing_where_one_example_is_broken(draw):
    student, teacher = draw(4, 5)
    student.requires_grad_()
    loss = Guarded(RKD())
    whole = loss(Signals.of(student), Signals.of(teacher), None)
    torch.testing.assert_close(whole, RKD()(Signals.of(student), Signals.of(teacher), None))
    poisoned = teacher.clone()
    poisoned[0, 0] = math.nan
    value = loss(Signals.of(student), Signals.of(poisoned), None)
    if value.ndim == 0:
        assert value == 0
    else:
        assert value[0] == 0
    value.sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_a_broken_listener_hides_nothing(draw):
    student, teacher = draw(4, 5)
    student[0, 0] = math.nan
    assert Guarded(KD())(Signals(student), Signals(teacher), None)[0].isnan()
    teacher[:] = math.nan
    assert Guarded(KD())(Signals(student), Signals(teacher), None)[0].isnan()


def test_out_of_proportion_is_relative_to_the_listener():
    student = torch.zeros(1, 2)
    student[0, 0] = 1.0  # so the limit is 2 * LARGEST
    for factor, heard in ((1.9, True), (2.1, False)):
        teacher = torch.tensor([[factor * LARGEST, 0.0]])
        value = Guarded(Hint())(Signals.of(student), Signals.of(teacher), None)
        assert bool(value.ne(0).any()) is heard
    assert Guarded(Hint())(Signals.of(3 * student), Signals.of(torch.tensor([[3.9 * LARGEST, 0.0]])), None).ne(0).any()


def test_a_broken_classifier_is_not_read(draw):
    logits, _ = draw(3, 4)
    heads: list[Head | None] = []

    def looks(student, teacher, labels=None):
        heads.append(teacher.head)
        return KD()(student, teacher, labels)

    for bias in (None, torch.tensor([math.inf])):
        Guarded(cast(Loss, looks))(Signals(logits), Signals(logits, head=Head(torch.tensor([[math.nan, 2.0]]), bias)), None)
    assert [head.weight.tolist() for head in heads if head] == [[[0.0, 2.0]]] * 2
    assert [head.bias for head in heads if head] == [None, torch.zeros(1)]


def test_rotated_views_are_healed_too(draw):
    student, teacher = draw(2, 3)
    view = teacher.clone()
    view[1] = math.nan
    seen: list[Signals] = []

    def looks(student, teacher, labels=None):
        seen.append(teacher)
        return KD()(student, teacher, labels)

    values = Guarded(cast(Loss, looks))(Signals(student, views=(Signals(student),)), Signals(teacher, views=(Signals(view),)), None)
    assert values[0] != 0
    assert values[1] == 0
    torch.testing.assert_close(seen[0].views[0].logits, torch.stack([teacher[0], student[1]]))
