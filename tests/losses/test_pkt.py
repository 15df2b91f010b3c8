"""Probabilistic knowledge transfer: value by hand, an oracle by loops, limiting cases, memory bound, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.pkt import PKT, explicit_neighbour_kl, neighbour_kl
from limbeck.types import Signals


def call(student, teacher, **fields):
    return PKT(**fields)(Signals.of(student), Signals.of(teacher))


def test_value_by_hand():
    """Teacher: examples 0 and 1 at 60 degrees, both at a right angle to 2. Student: all three at right angles."""
    student = 3 * torch.eye(3)
    teacher = torch.tensor([[1.0, 0.0, 0.0], [0.5, math.sqrt(0.75), 0.0], [0.0, 0.0, 2.0]])
    near, far = 0.75 / 1.25, 0.5 / 1.25
    row = near * math.log(near / 0.5) + far * math.log(far / 0.5)
    assert call(student, teacher).item() == pytest.approx(2 * row / 3, rel=1e-5)


def oracle(student, teacher, official):
    def similarities(x):
        x = x.flatten(1).tolist()
        eps = 1e-7 if official else 0
        lengths = [math.hypot(*row) + eps for row in x]
        return [
            [(1 + sum(p * q for p, q in zip(x[i], x[j], strict=True)) / lengths[i] / lengths[j]) / 2 for j in range(5)] for i in range(5)
        ]

    total, k, m = 0, similarities(student), similarities(teacher)
    for i in range(5):
        js = [j for j in range(5) if official or j != i]
        for j in js:
            p, q = m[i][j] / sum(m[i][n] for n in js), k[i][j] / sum(k[i][n] for n in js)
            total += p * math.log((p + 1e-7) / (q + 1e-7)) / 25 if official else p * math.log(p / q) / 5
    return total


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("chunk", [2, 5])
def test_oracle(draw, variant, chunk):
    (student,), (teacher,) = draw(5, 2, 3, count=1), draw(5, 4, count=1, seed=9)
    got = call(student, teacher, variant=variant, chunk=chunk).item()
    assert got == pytest.approx(oracle(student, teacher, variant == "official"), rel=1e-9)


def test_length_and_rotation_do_not_matter(draw):
    (x,), (t,), (q,) = draw(5, 4, count=1), draw(5, 3, count=1, seed=4), draw(4, 4, count=1, seed=5)
    moved = torch.arange(1, 6, dtype=torch.float64)[:, None] * x @ torch.linalg.qr(q).Q
    torch.testing.assert_close(call(moved, t), call(x, t))


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_equal_features_give_exactly_zero(variant):
    x = torch.randn(6, 5, requires_grad=True)
    value = call(x, x.detach().clone(), variant=variant)
    value.backward()
    assert value.item() == 0
    assert x.grad.abs().max() < 1e-6


@pytest.mark.parametrize("batch", [1, 2])
def test_one_other_example_is_certain(draw, batch):
    student, teacher = draw(batch, 4)
    assert call(student, teacher).item() == 0


def test_batch_of_one_of_the_official_code_is_zero(draw):
    student, teacher = draw(1, 4)
    student.requires_grad_()
    value = call(student, teacher, variant="official")
    value.backward()
    assert value.item() == 0
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_zero_and_opposite_features_are_finite(variant):
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    for teacher in (torch.randn(4, 3), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])):
        value = call(student, teacher, variant=variant)
        (gradient,) = torch.autograd.grad(value, student)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_floor_by_hand():
    """Student: 1 lies opposite to 0 and 2. Teacher: all alike. A floor of 0.25 makes the similarities 0.25."""
    student, teacher = torch.tensor([[1.0], [-1.0], [1.0]]), torch.ones(3, 1)
    row = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    assert neighbour_kl(student, teacher, floor=0.25, chunk=9).item() == pytest.approx(2 * row / 3)
    assert neighbour_kl(student, teacher, floor=1e-7, chunk=9).item() == call(student, teacher).item()


def test_floor_of_the_official_code_by_hand():
    """Lengths 1 + 1; directions 1/2 and -1/2; similarities 5/8 and 3/8, which are also the probabilities; teacher 1/2 each."""
    student, teacher = torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1)
    expected = 0.5 * (math.log(1.5 / 1.625) + math.log(1.5 / 1.375)) / 2
    assert explicit_neighbour_kl(student, teacher, floor=1.0, chunk=9).item() == pytest.approx(expected, rel=1e-4)
    assert explicit_neighbour_kl(student, teacher, floor=1e-7, chunk=9).item() == call(student, teacher, variant="official").item()


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_chunk_changes_neither_value_nor_gradient(draw, variant, chunk):
    student, teacher = draw(5, 3)
    values = []
    for loss in (PKT(variant=variant), PKT(variant=variant, chunk=chunk)):
        own = student.clone().requires_grad_()
        value = loss(Signals.of(own), Signals.of(teacher))
        value.backward()
        values.append((value.detach(), own.grad))
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_chunk_bounds_the_memory(variant):
    kept = {}
    for chunk in (8, 64):
        sizes = {}  # by storage: what is kept twice is one tensor
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: (sizes.update({x.data_ptr(): x.numel()}), x)[1], lambda x: x):
            call(torch.randn(64, 4, requires_grad=True), torch.randn(64, 4), chunk=chunk, variant=variant)
        kept[chunk] = sum(sizes.values())
    assert kept[64] > 64**2
    assert kept[8] < 64**2 / 2


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_autocast_does_not_touch_the_similarities(variant):
    student, teacher = torch.randn(2, 6, 8).unbind()
    expected = call(student, teacher, variant=variant)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(call(student, teacher, variant=variant), expected)


def test_half_precision_is_widened():
    student, teacher = torch.randn(2, 6, 8).bfloat16().unbind()
    for variant in ("paper", "official"):
        torch.testing.assert_close(call(student, teacher, variant=variant), call(student.float(), teacher.float(), variant=variant))


def test_needs_defaults_and_bounds():
    needs = PKT().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (False, False, True, "one", "any")
    assert needs.global_batch
    assert (PKT().variant, PKT().chunk) == ("paper", 1024)
    with pytest.raises(ValueError, match=r"^PKT\.chunk must be > 0, got 0$"):
        PKT(chunk=0)


def test_golden():
    check_parity("pkt")
