"""Products of neighbouring errors: value by hand, oracle, the order of the batch, golden numbers."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.neighbour_product import NeighbourProduct, neighbour_product
from limbeck.types import Signals


def test_value_by_hand():
    """Errors (1, 2), (3, 1), (0, 5): products 1*3 + 2*1 and 3*0 + 1*5."""
    student = torch.tensor([[1.0, -2.0], [0.0, 0.0], [4.0, 1.0]])
    teacher = torch.tensor([[0.0, 0.0], [-3.0, 1.0], [4.0, 6.0]])
    assert NeighbourProduct()(Signals.of(student), Signals.of(teacher)).item() == pytest.approx((5 + 5) / 2)


def test_oracle_on_maps(draw):
    student, teacher = draw(5, 2, 3, 3)
    s, t = student.flatten(1).tolist(), teacher.flatten(1).tolist()
    errors = [[abs(a - b) for a, b in zip(x, y, strict=True)] for x, y in zip(s, t, strict=True)]
    expected = sum(a * b for x, y in itertools.pairwise(errors) for a, b in zip(x, y, strict=True)) / 4
    assert neighbour_product(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_every_other_match_is_enough():
    student = torch.tensor([[1.0], [0.0], [2.0]], requires_grad=True)
    value = neighbour_product(student, torch.zeros(3, 1))
    value.backward()
    assert value.item() == 0
    assert student.grad.tolist() == [[0.0], [0.0], [0.0]]  # pyright: ignore[reportOptionalMemberAccess]


def test_batch_of_two_has_one_product():
    assert neighbour_product(torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.zeros(2, 2)).item() == 5


def test_derivatives(draw):
    student, teacher = draw(4, 2, 3)
    student.requires_grad_()
    for learned in (False, True):
        inputs = (student, teacher.clone().requires_grad_(learned))
        assert torch.autograd.gradcheck(neighbour_product, inputs)
        assert torch.autograd.gradgradcheck(neighbour_product, inputs)


def test_batch_of_one_is_zero():
    assert neighbour_product(torch.ones(1, 3), torch.zeros(1, 3)).item() == 0


def test_half_precision_is_widened():
    student, teacher = torch.randn(2, 6, 8).bfloat16().unbind()
    torch.testing.assert_close(neighbour_product(student, teacher), neighbour_product(student.float(), teacher.float()))


def test_needs_and_mistakes():
    needs = NeighbourProduct().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (False, False, True, "one", "full")
    assert needs.global_batch
    with pytest.raises(ShapeMismatch, match=r"student \[4, 3\] and teacher \[4, 2\] must have the same shape"):
        NeighbourProduct()(Signals.of(torch.ones(4, 3)), Signals.of(torch.ones(4, 2)))


def test_golden():
    check_parity("cc")
