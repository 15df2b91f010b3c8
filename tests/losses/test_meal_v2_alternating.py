"""MEAL V2 in turn: whose gradient when, against the min-max of both at once."""

from __future__ import annotations

import pytest
import torch

from limbeck.losses.meal_v2 import MEALV2, critic_value
from limbeck.losses.meal_v2_alternating import MEALV2Alternating
from limbeck.ops.divergence import cross_entropy
from limbeck.types import Signals


def ready(kind, student, teacher, **fields):
    torch.manual_seed(0)
    loss = kind(**fields)
    loss.setup(Signals(student), Signals(teacher))
    return loss.to(student.dtype)


def test_student_and_critic_take_turns(draw):
    """In even turns the student's gradient is that of the min-max and the critic has none; in odd ones it is the other way round."""
    student, teacher = draw(4, 9)
    student.requires_grad_()
    pair = [ready(kind, student, teacher, reduction=1, critic_weight=3.0) for kind in (MEALV2, MEALV2Alternating)]
    weights = [each.get_parameter("critic.0.weight") for each in pair]
    assert torch.equal(*weights)

    def gradients(which):
        value = pair[which](Signals(student), Signals(teacher)).sum()
        return torch.autograd.grad(value, [student, weights[which]], materialize_grads=which == 0)

    at_once = gradients(0)
    for turn in range(4):
        assert pair[1].state_dict()["turn"].item() == turn
        mine, critics = gradients(1)
        rests, moves, expected = (critics, mine, at_once[0]) if turn % 2 == 0 else (mine, critics, at_once[1])
        assert rests.abs().max() == 0
        assert moves.abs().max() > 0
        torch.testing.assert_close(moves, expected)
    value = critic_value(pair[1].critic, student, teacher)
    torch.testing.assert_close(pair[1](Signals(student), Signals(teacher)), cross_entropy(teacher, student) + 3 * value)
    torch.testing.assert_close(pair[1](Signals(student), Signals(teacher)), 3 * value)


def test_who_rests_has_the_gradient_0(draw):
    student, teacher = draw(4, 9)
    student.requires_grad_()
    loss = ready(MEALV2Alternating, student, teacher)
    for turn in range(2):
        own, *critics = torch.autograd.grad(loss(Signals(student), Signals(teacher)).sum(), [student, *loss.parameters()])
        resting, moving = ([own], critics) if turn else (critics, [own])
        assert all(not gradient.any() for gradient in resting)
        assert any(gradient.any() for gradient in moving)


def test_evaluation_takes_no_turn(draw):
    student, teacher = draw(4, 9)
    loss = ready(MEALV2Alternating, student, teacher).eval()
    first = loss(Signals(student), Signals(teacher))
    assert torch.equal(first, loss(Signals(student), Signals(teacher)))
    assert int(loss.turn) == 0
    assert "turn" in loss.state_dict()


def test_the_critic_is_the_paper_s(draw):
    student, teacher = draw(2, 16)
    mine, paper = (ready(kind, student, teacher, reduction=4).critic for kind in (MEALV2Alternating, MEALV2))
    assert str(mine) == str(paper)


def test_defaults_and_needs():
    loss = MEALV2Alternating()
    assert (loss.critic_weight, loss.reduction) == (1.0, 8)
    needs = loss.needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("class",))
    with pytest.raises(ValueError, match=r"^MEALV2Alternating\.reduction must be > 0, got 0$"):
        MEALV2Alternating(reduction=0)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"^MEALV2Alternating\.critic_weight must be >= 0, got -1$"):
        MEALV2Alternating(critic_weight=-1)
