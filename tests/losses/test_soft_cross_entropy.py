"""Soft cross-entropy: value by hand, its relation to KD and to labels, defaults."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.losses.cross_entropy import smoothed_cross_entropy
from limbeck.losses.kd import KD
from limbeck.losses.soft_cross_entropy import SoftCrossEntropy, softened_cross_entropy
from limbeck.types import Signals


def test_value_by_hand():
    """Teacher (3/4, 1/4) against student (1/5, 4/5)."""
    teacher, student = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[0.0, math.log(4)]])
    got = SoftCrossEntropy()(Signals(student), Signals(teacher))
    assert got.item() == pytest.approx(-0.75 * math.log(0.2) - 0.25 * math.log(0.8), rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_it_is_kd_and_the_entropy_of_the_teacher(draw, temperature):
    student, teacher = (x.requires_grad_() for x in draw(4, 6))
    teacher.requires_grad_(False)
    got = SoftCrossEntropy(temperature=temperature)(Signals(student), Signals(teacher))
    kd = KD(temperature=temperature)(Signals(student), Signals(teacher))
    p = (teacher / temperature).softmax(-1)
    torch.testing.assert_close(got - kd, -(temperature**2) * (p * p.log()).sum(-1))
    torch.testing.assert_close(torch.autograd.grad(got.sum(), student), torch.autograd.grad(kd.sum(), student))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_first_and_second_derivatives_of_both(draw, temperature):
    student, teacher = draw(3, 4)

    def value(ours, theirs):
        return softened_cross_entropy(ours, theirs, temperature=temperature, factor=2.0)

    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: value(x, teacher), student)
    assert torch.autograd.gradgradcheck(lambda x: value(x, teacher), student)
    teacher.requires_grad_()
    assert torch.autograd.gradcheck(value, (student, teacher))
    assert torch.autograd.gradgradcheck(value, (student, teacher))


def test_a_sure_teacher_is_a_label(draw):
    (student,) = draw(3, 5, count=1)
    labels = torch.tensor([4, 0, 2])
    teacher = 1e4 * torch.nn.functional.one_hot(labels, 5).double()
    torch.testing.assert_close(
        softened_cross_entropy(student, teacher, temperature=1.0), smoothed_cross_entropy(student, labels, label_smoothing=0.0)
    )


def test_half_precision_is_divided_in_float32():
    student, teacher = torch.tensor([[60000.0, 0.0]]).half(), torch.tensor([[0.0, 0.0]]).half()
    for x, y, expected in ((student, teacher, 0.5 * 119968.0), (teacher, student, math.log(2))):
        torch.testing.assert_close(softened_cross_entropy(x, y, temperature=0.5), torch.tensor([expected]), rtol=1e-3, atol=0)


def test_tokens_give_one_value_each(draw):
    student, teacher = draw(2, 3, 5)
    assert SoftCrossEntropy()(Signals(student), Signals(teacher)).shape == (2, 3)


def test_defaults_and_bounds():
    assert SoftCrossEntropy().temperature == 1.0
    with pytest.raises(ValueError, match=r"^SoftCrossEntropy\.temperature must be > 0, got 0$"):
        SoftCrossEntropy(temperature=0)


def test_needs():
    needs = SoftCrossEntropy().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("class",))


def test_the_classes_are_the_last_dimension(draw):
    student, teacher = draw(2, 3, 4)
    got = softened_cross_entropy(student, teacher, temperature=2.0)
    torch.testing.assert_close(got, -((teacher / 2).softmax(2) * (student / 2).log_softmax(2)).sum(2))
