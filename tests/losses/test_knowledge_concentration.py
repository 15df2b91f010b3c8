"""Knowledge concentration: how the weight fades, by hand and over updates."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.losses.kd import softened_kl
from limbeck.losses.knowledge_concentration import KnowledgeConcentration, pace
from limbeck.types import Signals


def ready(**fields):
    loss = KnowledgeConcentration(**fields)
    loss.setup(Signals(torch.zeros(2, 3)), Signals(torch.zeros(2, 3)))
    return loss.double()


def test_pace():
    assert pace(torch.tensor([0.0, 0.5, 1.0, torch.inf]), scale=0.5).tolist() == pytest.approx([0, 1 - 1 / math.e, 1 - math.exp(-2), 1])


def test_the_first_updates(draw):
    """Full weight; then by the first divergence; then by its mean with the second."""
    loss = ready(temperature=3.0, scale=0.2, momentum=0.75)
    first, second = draw(4, 6)
    teacher = torch.zeros(4, 6, dtype=torch.float64)
    one, two = (softened_kl(x, teacher, temperature=3.0).mean() for x in (first, second))
    mean = one
    for student, divergence, weight in (
        (first, one, torch.ones(())),
        (second, two, -torch.expm1(-one / 0.2)),
        (first, one, -torch.expm1(-(0.75 * one + 0.25 * two) / 0.2)),
    ):
        got = loss(Signals(student.clone().requires_grad_()), Signals(teacher))
        torch.testing.assert_close(got, weight.double() * 9 * divergence)
    mean = 0.75 * (0.75 * one + 0.25 * two) + 0.25 * one
    torch.testing.assert_close(loss.mean, mean)


def test_a_student_that_matches_is_left_alone(draw):
    student, _ = draw(4, 6)
    loss = ready(momentum=0.0)
    loss(Signals(student.clone().requires_grad_()), Signals(student))
    assert loss.mean == 0
    assert loss(Signals(student), Signals(-student)) == 0


def test_the_weight_carries_no_gradient(draw):
    student, teacher = draw(4, 6)
    loss = ready()
    loss(Signals(student.clone().requires_grad_()), Signals(teacher))
    ours = student.clone().requires_grad_()
    loss(Signals(ours), Signals(teacher)).backward()
    plain = student.clone().requires_grad_()
    softened_kl(plain, teacher, temperature=2.0).mean().backward()
    assert plain.grad is not None
    torch.testing.assert_close(ours.grad, 4 * pace(loss.mean, scale=0.1) * plain.grad)


def test_only_training_moves_the_mean(draw):
    student, teacher = draw(4, 6)
    loss = ready()
    loss(Signals(student), Signals(teacher))
    loss.eval()(Signals(student.clone().requires_grad_()), Signals(teacher))
    assert loss.mean == torch.inf
    loss.train()(Signals(student.clone().requires_grad_()), Signals(teacher))
    assert loss.state_dict().keys() == {"mean"}
    assert loss.mean < torch.inf
    assert not loss.mean.requires_grad


def test_half_precision_is_kept_in_float32(draw):
    loss = KnowledgeConcentration()
    student, teacher = (x.bfloat16() for x in draw(4, 6))
    loss.setup(Signals(student), Signals(teacher))
    got = loss(Signals(student.clone().requires_grad_()), Signals(teacher))
    assert (got.dtype, loss.mean.dtype) == (torch.float32, torch.float32)


def test_defaults_and_needs():
    loss = KnowledgeConcentration()
    assert (loss.temperature, loss.scale, loss.momentum) == (2.0, 0.1, 0.95)
    needs = loss.needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features) == (True, False, True, "none")
    assert (needs.label_kinds, needs.global_batch) == (("class",), True)
    with pytest.raises(ValueError, match=r"^KnowledgeConcentration\.scale must be > 0, got 0"):
        KnowledgeConcentration(scale=0.0)
