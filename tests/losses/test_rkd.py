"""Relational distillation: value by hand, an oracle by loops, invariances, memory bound, golden numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.rkd import RKD, angle_gap, distance_gap
from limbeck.types import Signals


def huber(x):
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def test_distances_by_hand():
    """Points 0, 1, 3 on a line: distances 1, 2, 3 with mean 2. Points 0, 1, 2: 1, 1, 2 with mean 4/3."""
    student, teacher = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [1.0], [2.0]])
    gaps = [1 / 2 - 3 / 4, 2 / 2 - 3 / 4, 3 / 2 - 6 / 4]
    assert distance_gap(student, teacher).item() == pytest.approx(2 * sum(map(huber, gaps)) / 9)


def test_angles_by_hand():
    """Teacher: a line, whose angles have cosines 1 and -1. Student: a right-angled corner at example 1."""
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0], [1.0], [2.0]])
    at_ends, at_corner = math.sqrt(0.5) - 1, 0 - -1
    assert angle_gap(student, teacher, chunk=9).item() == pytest.approx(2 * (2 * huber(at_ends) + huber(at_corner)) / 27)


def test_oracle(draw):
    (student,), (teacher,) = draw(5, 3, count=1), draw(5, 2, 2, count=1, seed=7)
    teacher = 3 * teacher

    def relations(x):
        x = x.flatten(1).tolist()
        d = [[math.dist(a, b) for b in x] for a in x]
        mean = sum(map(sum, d)) / 20

        def cosine(i, j, k):
            if j in (i, k):
                return 0.0
            return sum((a - b) * (c - b) for a, b, c in zip(x[i], x[j], x[k], strict=True)) / (d[i][j] * d[k][j])

        return [value / mean for row in d for value in row], [cosine(i, j, k) for j in range(5) for i in range(5) for k in range(5)]

    (ds, cs), (dt, ct) = relations(student), relations(teacher)
    distance = sum(huber(a - b) for a, b in zip(ds, dt, strict=True)) / 25
    angle = sum(huber(a - b) for a, b in zip(cs, ct, strict=True)) / 125
    got = RKD(distance_weight=3.0, angle_weight=5.0)(Signals.of(student), Signals.of(teacher))
    assert got.item() == pytest.approx(3 * distance + 5 * angle, rel=1e-9)
    for loss, expected in (RKD(distance_weight=0.0), 2 * angle), (RKD(angle_weight=0.0), distance):
        assert loss(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(expected, rel=1e-9)


def test_weights_below_one_count(draw):
    student, teacher = (Signals.of(x) for x in draw(5, 3))
    distance, angle = RKD(angle_weight=0.0)(student, teacher), RKD(distance_weight=0.0, angle_weight=1.0)(student, teacher)
    assert min(distance.item(), angle.item()) > 0
    torch.testing.assert_close(RKD(distance_weight=0.5, angle_weight=0.25)(student, teacher), 0.5 * distance + 0.25 * angle)


def test_a_term_without_weight_is_not_computed(monkeypatch, draw):
    def fail(*args, **kwargs):
        raise AssertionError

    student, teacher = (Signals.of(x) for x in draw(5, 3))
    with monkeypatch.context() as patch:
        patch.setattr("limbeck.losses.rkd.angle_gap", fail)
        assert RKD(angle_weight=0.0)(student, teacher).item() > 0
        with pytest.raises(AssertionError):
            RKD(angle_weight=0.5)(student, teacher)
    monkeypatch.setattr("limbeck.losses.rkd.distance_gap", fail)
    RKD(distance_weight=0.0)(student, teacher)


def test_rigid_motion_and_scale_do_not_matter(draw):
    (x,), (t,), (q,) = draw(5, 4, count=1), draw(5, 3, count=1, seed=4), draw(4, 4, count=1, seed=5)
    moved = 7 * x @ torch.linalg.qr(q).Q + 3
    torch.testing.assert_close(RKD()(Signals.of(moved), Signals.of(t)), RKD()(Signals.of(x), Signals.of(t)))


def test_both_terms_vanish_for_two_examples(draw):
    (student,), (teacher,) = draw(2, 4, count=1), draw(2, 3, count=1, seed=4)
    assert RKD()(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_coinciding_examples_have_a_finite_gradient(batch):
    student = torch.ones(batch, 3, requires_grad=True)
    value = RKD()(Signals.of(student), Signals.of(torch.randn(batch, 3)))
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_one_coinciding_pair_keeps_the_gradient_of_the_others(draw):
    student, teacher = draw(4, 3)
    student[1] = student[0]
    student.requires_grad_()
    RKD()(Signals.of(student), Signals.of(teacher)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().min() > 0


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5])
def test_chunk_changes_neither_value_nor_gradient(draw, chunk):
    student, teacher = draw(5, 3)
    values = []
    for loss in (RKD(chunk=128), RKD(chunk=chunk)):
        own = student.clone().requires_grad_()
        value = loss(Signals.of(own), Signals.of(teacher))
        value.backward()
        values.append((value.detach(), own.grad))
    torch.testing.assert_close(values[0], values[1])


def test_chunk_bounds_the_memory():
    """What is kept for the backward pass grows with chunk * batch^2, not with batch^3."""
    kept = {}
    for chunk in (4, 64):
        sizes = {}  # by storage: what is kept twice is one tensor
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: (sizes.update({x.data_ptr(): x.numel()}), x)[1], lambda x: x):
            angle_gap(torch.randn(64, 8, requires_grad=True), torch.randn(64, 8), chunk=chunk)
        kept[chunk] = sum(sizes.values())
    assert kept[64] > 64**3
    assert kept[4] < 64**2 * 8


def test_near_neighbours_keep_their_angles():
    """Differences are taken before products: a small cluster far from the origin has the geometry of one at the origin."""
    corner = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.7, 0.7]]) / 64
    got = RKD()(Signals.of(corner + 256), Signals.of(corner))
    assert got.item() == pytest.approx(0, abs=1e-3)


def test_defaults_and_bounds():
    loss = RKD()
    assert (loss.distance_weight, loss.angle_weight, loss.chunk) == (1.0, 2.0, 8)
    with pytest.raises(ValueError, match=r"^RKD\.angle_weight must be >= 0, got -2$"):
        RKD(angle_weight=-2)
    with pytest.raises(ValueError, match=r"^RKD\.chunk must be > 0, got 0$"):
        RKD(chunk=0)


@pytest.mark.parametrize("field", ["distance_weight", "angle_weight"])
def test_weights_are_not_negative(field):
    wrong: dict[str, Any] = {field: -0.1}
    with pytest.raises(ValueError, match=rf"^RKD\.{field} must be >= 0, got -0\.1$"):
        RKD(**wrong)


def test_without_weights_it_is_zero_in_full_precision():
    got = RKD(distance_weight=0.0, angle_weight=0.0)(*(Signals.of(torch.ones(2, 3, dtype=torch.bfloat16)) for _ in range(2)))
    assert (got.item(), got.dtype) == (0.0, torch.float32)


def test_needs():
    needs = RKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "any",
        True,
    )


def test_normalised_embeddings(draw):
    """The length of each embedding no longer counts; that of the loss without it does."""
    student, teacher = draw(5, 3)
    scales = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)[:, None]
    moved = RKD(normalise=True)(Signals.of(scales * student), Signals.of(scales * teacher))
    torch.testing.assert_close(moved, RKD(normalise=True)(Signals.of(student), Signals.of(teacher)))
    units = [Signals.of(x / x.norm(dim=1, keepdim=True)) for x in (student, teacher)]
    torch.testing.assert_close(moved, RKD()(*units))
    assert not RKD().normalise


def test_normalised_maps_are_one_vector(draw):
    student, teacher = draw(5, 2, 3, 3)
    got = RKD(normalise=True)(Signals.of(student), Signals.of(teacher))
    torch.testing.assert_close(got, RKD(normalise=True)(Signals.of(student.flatten(1)), Signals.of(teacher.flatten(1))))


@pytest.mark.parametrize("chunk", [2, 8])
def test_golden(check_golden, chunk):
    check_golden("rkd", lambda h: (RKD(**h, chunk=chunk), 1.0))


def test_parity():
    check_parity("rkd", "rkd_l2norm")
