"""Temperatures of single examples, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.temperatures import disagreement, temperatures, uncertainty


def test_disagreement_by_hand():
    """At right angles, opposite, the same way and without a direction."""
    student = torch.tensor([[3.0, 0.0], [2.0, 0.0], [5.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 7.0], [-2.0, 0.0], [5.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    opposite = 1 + 4 / 2.0001**2
    assert disagreement(student, teacher, gamma=1.0).tolist() == pytest.approx([1, opposite, 1 - 25 / 5.0001**2, 1])
    assert disagreement(student, teacher, gamma=3.0)[1].item() == pytest.approx(opposite**3)


def test_classes_are_the_last_dimension():
    student, teacher = torch.randn(2, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    found = disagreement(student, teacher, gamma=2.0)
    torch.testing.assert_close(found.flatten(), disagreement(student.flatten(0, 1), teacher.flatten(0, 1), gamma=2.0))
    torch.testing.assert_close(uncertainty(student).flatten(), uncertainty(student.flatten(0, 1)))


def test_disagreement_in_half_precision():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 5, generator=generator).bfloat16()
    found = disagreement(student, teacher, gamma=1.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, disagreement(student.float(), teacher.float(), gamma=1.0))


def test_disagreement_is_never_negative():
    """By rounding some cosines are above 1."""
    x = 1e6 * torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    assert disagreement(x, x, gamma=0.5).isfinite().all()


def test_uncertainty_by_hand():
    student = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    assert uncertainty(student).tolist() == pytest.approx([1 / 0.751, 1 / 0.501])
    assert uncertainty(student.bfloat16()).dtype == torch.float32


def test_temperatures_by_hand():
    hardness = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    found = temperatures(hardness, base=4.0, beta=0.5)
    assert found.tolist() == [5.0, 4.5, 2.5]
    assert not found.requires_grad
    assert temperatures(hardness, base=4.0, beta=0.0).tolist() == [4.0, 4.0, 4.0]
