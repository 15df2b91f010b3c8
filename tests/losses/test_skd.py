"""Streamlined distillation: value by hand, an oracle by loops, the three variants, limiting cases, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.kd import KD
from limbeck.losses.skd import SKD, direction_gap, instance_gap
from limbeck.types import Signals

VARIANTS = ["paper", "official", "zoo"]


def naive_directions(student, teacher, tikhonov, divisor):
    """The mean length, with the covariance and its inverse written out."""

    def cosines(x):
        return [[sum(p * q for p, q in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b) for b in x] for a in x]

    b = len(student)
    ours, theirs = cosines(student.tolist()), cosines(teacher.tolist())
    rows = torch.tensor([[(p - q) / divisor for p, q in zip(a, c, strict=True)] for a, c in zip(ours, theirs, strict=True)]).double()
    mean = rows.sum(0) / b
    covariance = sum(torch.outer(row - mean, row - mean) for row in rows) / (b - 1)
    inverse = torch.linalg.inv(covariance + tikhonov * torch.eye(b).double())
    return sum(math.sqrt(row @ inverse @ row) for row in rows) / b


def test_directions_by_hand():
    """Two examples, at a right angle and parallel: the rows are (0, -1) and (-1, 0), their covariance is ((1, -1), (-1, 1)) / 2."""
    student, teacher = torch.eye(2).double(), torch.ones(2, 2).double()
    inverse = torch.linalg.inv(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]).double())
    got = direction_gap(student, teacher, tikhonov=0.5, variant="paper")
    assert inverse[0, 0].item() == pytest.approx(4 / 3)
    assert got.item() == pytest.approx(math.sqrt(4 / 3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_directions_oracle(draw, variant):
    """Four of seven classes are at most as sure as the median."""
    student, teacher = draw(5, 7)
    divisor, share = (1, 1) if variant == "paper" else (7, 4 / 7)
    got = direction_gap(student, teacher, tikhonov=0.3, variant=variant)
    assert got.item() == pytest.approx(share * naive_directions(student, teacher, 0.3, divisor), rel=1e-6)


def test_instances(draw):
    student, teacher = draw(5, 7)
    each = KD(temperature=3.0)(Signals(student), Signals(teacher))
    confidence = teacher.softmax(-1).amax(-1)
    unsure = confidence.argsort()[:3]
    torch.testing.assert_close(instance_gap(student, teacher, temperature=3.0, variant="paper"), each.mean() / 9)
    torch.testing.assert_close(instance_gap(student, teacher, temperature=3.0, variant="official"), each.mean() * 3 / 5)
    torch.testing.assert_close(instance_gap(student, teacher, temperature=3.0, variant="zoo"), each[unsure].sum() / 5)


def test_instances_of_which_the_teacher_is_as_sure_as_numbers_go_all_count():
    """The three confidences are 1 in float32, though their logarithms would differ."""
    student = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    teacher = torch.tensor([[20.0, 0.0], [22.0, 0.0], [24.0, 0.0]])
    official, zoo = (instance_gap(student, teacher, temperature=2.0, variant=v) for v in ("official", "zoo"))
    torch.testing.assert_close(zoo, official)


def test_the_teacher_says_which_classes_count(draw):
    """All classes of a teacher that knows nothing are unsure, and about half of those of the student."""
    (student,), teacher = draw(5, 7, count=1), torch.zeros(5, 7, dtype=torch.float64)
    loss = SKD(instance_weight=0.0, variant="official")
    torch.testing.assert_close(loss(Signals(student), Signals(teacher)), 7 / 4 * loss(Signals(teacher), Signals(student)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_whole(draw, variant):
    student, teacher = draw(5, 7)
    loss = SKD(temperature=3.0, tikhonov=0.3, instance_weight=2.0, direction_weight=5.0, variant=variant)
    instance = instance_gap(student, teacher, temperature=3.0, variant=variant)
    direction = direction_gap(student, teacher, tikhonov=0.3, variant=variant)
    torch.testing.assert_close(loss(Signals(student), Signals(teacher)), 2 * instance + 5 * direction)


def test_the_length_of_logits_does_not_turn_them(draw):
    student, teacher = draw(5, 7)
    lengths = torch.linspace(0.5, 3, 5).double()[:, None]
    for moved in ((lengths * student, teacher), (student, lengths * teacher)):
        torch.testing.assert_close(
            direction_gap(*moved, tikhonov=0.1, variant="paper"), direction_gap(student, teacher, tikhonov=0.1, variant="paper")
        )


def test_tokens_are_examples(draw):
    student, teacher = draw(2, 3, 6)
    flat = SKD()(Signals(student.flatten(0, 1)), Signals(teacher.flatten(0, 1)))
    torch.testing.assert_close(SKD()(Signals(student), Signals(teacher)), flat)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_example_and_zero_logits_are_finite(variant):
    for student, teacher in ((torch.randn(1, 4), torch.randn(1, 4)), (torch.zeros(3, 4), torch.zeros(3, 4))):
        student.requires_grad_()
        value = direction_gap(student, teacher, tikhonov=0.1, variant=variant)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-6)
        assert student.grad is not None
        assert student.grad.isfinite().all()


def test_float32_inside_autocast(draw):
    student, teacher = (x.float() for x in draw(5, 7))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = direction_gap(student, teacher, tikhonov=0.1, variant="paper")
    torch.testing.assert_close(got, direction_gap(student, teacher, tikhonov=0.1, variant="paper"))
    half = instance_gap(student.bfloat16(), teacher.bfloat16(), temperature=2.0, variant="zoo")
    torch.testing.assert_close(half, instance_gap(student.bfloat16().float(), teacher.bfloat16().float(), temperature=2.0, variant="zoo"))


def test_defaults_and_bounds():
    loss = SKD()
    assert (loss.temperature, loss.tikhonov, loss.instance_weight, loss.direction_weight, loss.variant) == (4.0, 0.1, 1.0, 1.0, "paper")
    for name in ("temperature", "tikhonov"):
        with pytest.raises(ValueError, match=rf"^SKD\.{name} must be > 0, got 0$"):
            SKD(**{name: 0})  # pyright: ignore[reportArgumentType]
    for name in ("instance_weight", "direction_weight"):
        with pytest.raises(ValueError, match=rf"^SKD\.{name} must be >= 0, got -1$"):
            SKD(**{name: -1})  # pyright: ignore[reportArgumentType]


def test_needs():
    needs = SKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features) == (True, False, True, "none")
    assert (needs.label_kinds, needs.global_batch) == (("class",), True)


def test_golden():
    check_parity("skd", "skd_instance", "skd_direction")
