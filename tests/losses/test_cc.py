"""Correlation congruence: value by hand, oracle by loops, the kernel it approximates, memory bound, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.cc import CC, congruence_gap, gaussian_series
from limbeck.types import Signals


def call(student, teacher, **fields):
    return CC(**fields)(Signals.of(student), Signals.of(teacher))


def test_bilinear_by_hand():
    """Student: two examples of one direction; teacher: at a right angle. Two of four correlations differ, by 1."""
    student, teacher = torch.tensor([[3.0], [2.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    assert call(student, teacher, kernel="bilinear").item() == pytest.approx(2 / 4)
    gap = math.sqrt(2 * 6**2 + (9 - 4) ** 2 + (4 - 25) ** 2)
    assert call(student, teacher, kernel="bilinear", variant="torchdistill").item() == pytest.approx(gap / 4)


def test_gaussian_by_hand():
    """Off the diagonal exp(-1) (1 + 1 + 1/2) of a student of one direction, exp(-1) of a teacher at a right angle."""
    student, teacher = torch.tensor([[3.0], [2.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    assert call(student, teacher, gamma=0.5).item() == pytest.approx(2 * (1.5 / math.e) ** 2 / 4)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_series(order):
    products = torch.tensor([-2.0, 0.0, 0.7, 3.0], dtype=torch.float64)
    expected = [math.exp(-0.6) * sum((0.6 * x) ** p / math.factorial(p) for p in range(order + 1)) for x in products.tolist()]
    assert gaussian_series(products, gamma=0.3, order=order).tolist() == pytest.approx(expected, rel=1e-12)


def test_series_of_high_order_is_the_gaussian_kernel(draw):
    (x,) = draw(5, 4, count=1)
    x = x / x.norm(dim=1, keepdim=True)
    expected = (-0.8 * torch.cdist(x, x).square()).exp()
    torch.testing.assert_close(gaussian_series(x @ x.T, gamma=0.8, order=20), expected)


@pytest.mark.parametrize("variant", ["paper", "torchdistill"])
@pytest.mark.parametrize("kernel", ["gaussian", "bilinear"])
@pytest.mark.parametrize("chunk", [2, 100])
def test_oracle(draw, variant, kernel, chunk):
    (student,), (teacher,) = draw(5, 2, 3, count=1), draw(5, 4, count=1, seed=9)

    def matrix(x):
        x = x.flatten(1).tolist()
        if variant == "paper":
            x = [[value / math.hypot(*row) for value in row] for row in x]
        gram = [sum(p * q for p, q in zip(a, b, strict=True)) for a in x for b in x]
        return gram if kernel == "bilinear" else [math.exp(-0.8) * (1 + 0.8 * g + 0.32 * g * g) for g in gram]

    total = sum((a - b) ** 2 for a, b in zip(matrix(student), matrix(teacher), strict=True))
    expected = (total if variant == "paper" else math.sqrt(total)) / 25
    assert call(student, teacher, variant=variant, kernel=kernel, chunk=chunk).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("variant", ["paper", "torchdistill"])
@pytest.mark.parametrize("kernel", ["gaussian", "bilinear"])
def test_equal_features_give_exactly_zero(variant, kernel):
    x = torch.randn(6, 5, requires_grad=True)
    value = call(x, x.detach().clone(), variant=variant, kernel=kernel)
    value.backward()
    assert value.item() == 0
    assert not x.grad.any()


@pytest.mark.parametrize("variant", ["paper", "torchdistill"])
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_chunk_changes_neither_value_nor_gradient(draw, variant, chunk):
    student, teacher = draw(5, 3)
    values = []
    for loss in (CC(variant=variant), CC(variant=variant, chunk=chunk)):
        own = student.clone().requires_grad_()
        value = loss(Signals.of(own), Signals.of(teacher))
        value.backward()
        values.append((value.detach(), own.grad))
    torch.testing.assert_close(values[0], values[1])


def test_chunk_bounds_the_memory():
    kept = {}
    for chunk in (8, 64):
        sizes = {}  # by storage: what is kept twice is one tensor
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: (sizes.update({x.data_ptr(): x.numel()}), x)[1], lambda x: x):
            call(torch.randn(64, 4, requires_grad=True), torch.randn(64, 4), chunk=chunk)
        kept[chunk] = sum(sizes.values())
    assert kept[64] > 64**2
    assert kept[8] < 64**2 / 2


def test_squares_beyond_the_range_of_the_type():
    """Correlations of 1e20, whose squares are infinite in float32."""
    student, teacher = torch.tensor([[1e10], [0.0]], requires_grad=True), torch.zeros(2, 1)
    value = call(student, teacher, kernel="bilinear", variant="torchdistill")
    value.backward()
    assert value.item() == pytest.approx(1e20 / 4)
    assert student.grad[0].item() == pytest.approx(2e10 / 4)


def test_half_precision_is_widened():
    student, teacher = torch.randn(2, 6, 8).bfloat16().unbind()
    for variant in ("paper", "torchdistill"):
        torch.testing.assert_close(call(student, teacher, variant=variant), call(student.float(), teacher.float(), variant=variant))


def test_batch_of_one():
    student, teacher = torch.tensor([[2.0]]), torch.tensor([[3.0, 1.0]])
    assert call(student, teacher).item() == pytest.approx(0, abs=1e-12)
    assert congruence_gap(student, teacher, kernel="bilinear", gamma=0.0, order=0, chunk=1).item() == pytest.approx(6)


def test_needs_defaults_and_bounds():
    needs = CC().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (False, False, True, "one", "any")
    assert needs.global_batch
    loss = CC()
    assert (loss.kernel, loss.gamma, loss.order, loss.variant, loss.chunk) == ("gaussian", 0.4, 2, "paper", 1024)
    with pytest.raises(ValueError, match=r"^CC\.order must be > 0, got 0$"):
        CC(order=0)
    with pytest.raises(ValueError, match=r"^CC\.gamma must be > 0, got 0$"):
        CC(gamma=0)


def test_golden():
    check_parity("cckd")
