"""MEAL V2: value by hand, oracle, who works against whom, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.losses.parity import check_parity
from torch import nn

from limbeck.losses.meal_v2 import MEALV2, critic_for, critic_value
from limbeck.ops.divergence import cross_entropy
from limbeck.types import Signals


def ready(student, teacher, **fields):
    torch.manual_seed(0)
    loss = MEALV2(**fields)
    loss.setup(Signals(student), Signals(teacher))
    return loss.to(student.dtype)


class Says(nn.Module):
    """A critic that repeats the first two logits."""

    def forward(self, x):
        return x[:, :2]


def test_critic_by_hand():
    """Right about the student by (log 3, -log 3), undecided about the teacher."""
    student, teacher = torch.tensor([[math.log(3), -math.log(3), 7.0]]), torch.zeros(1, 3)
    assert critic_value(Says(), student, teacher).tolist() == pytest.approx([(math.log(4 / 3) + math.log(2)) / 2])
    assert critic_value(Says(), -student, teacher).tolist() == pytest.approx([(math.log(4) + math.log(2)) / 2])
    assert critic_value(Says(), teacher, -student).tolist() == pytest.approx([(math.log(4 / 3) + math.log(2)) / 2])


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_oracle(draw, variant):
    student, teacher = draw(4, 9)
    loss = ready(student, teacher, reduction=2, critic_weight=0.5, variant=variant)
    said = loss.critic(torch.cat([student, teacher]))
    truth = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4).double()
    critic = F.binary_cross_entropy_with_logits(said, truth)
    hard = -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(loss(Signals(student), Signals(teacher)).mean(), hard + 0.5 * critic)


def test_the_critic_is_narrow(draw):
    student, _ = draw(2, 16)

    def shapes(reduction, relu):
        return [tuple(m.weight.shape) if isinstance(m, nn.Linear) else "relu" for m in critic_for(student, reduction=reduction, relu=relu)]

    assert shapes(2, True) == [(8, 16), "relu", (4, 8), "relu", (2, 4), "relu"]
    assert shapes(4, False) == [(4, 16), "relu", (1, 4), "relu", (2, 1)]
    assert shapes(99, False) == [(1, 16), "relu", (1, 1), "relu", (2, 1)]
    assert isinstance(ready(*draw(2, 16), variant="official").critic[-1], nn.ReLU)
    assert isinstance(ready(*draw(2, 16)).critic[-1], nn.Linear)


def test_the_critic_is_on_the_device_of_the_logits():
    critic = critic_for(torch.zeros(2, 4, device="meta"), reduction=2, relu=False)
    assert all(p.is_meta for p in critic.parameters())


def test_the_student_works_against_its_critic_or_with_it(draw):
    student, teacher = draw(4, 9)
    student.requires_grad_()
    loss = ready(student, teacher, reduction=1)
    alone = torch.autograd.grad(cross_entropy(teacher, student).sum(), student)[0]
    of_critic = torch.autograd.grad(critic_value(loss.critic, student, teacher).sum(), student)[0]
    assert of_critic.abs().max() > 0
    against = torch.autograd.grad(loss(Signals(student), Signals(teacher)).sum(), student, retain_graph=True)[0]
    torch.testing.assert_close(against, alone - of_critic)
    loss.critic_weight, loss.variant = 3.0, "official"
    helping = torch.autograd.grad(loss(Signals(student), Signals(teacher)).sum(), student)[0]
    torch.testing.assert_close(helping, alone + 3 * of_critic)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_the_critic_always_learns(draw, variant):
    student, teacher = draw(4, 9)
    loss = ready(student, teacher, reduction=1, variant=variant)
    weight = loss.get_parameter("critic.0.weight")
    got = torch.autograd.grad(loss(Signals(student), Signals(teacher)).sum(), weight)[0]
    torch.testing.assert_close(got, torch.autograd.grad(critic_value(loss.critic, student, teacher).sum(), weight)[0])


def test_without_a_critic_it_is_the_cross_entropy(draw):
    student, teacher = draw(4, 9)
    got = ready(student, teacher, critic_weight=0.0)(Signals(student), Signals(teacher))
    torch.testing.assert_close(got, cross_entropy(teacher, student))


def test_half_precision_is_widened(draw):
    student, teacher = (x.bfloat16() for x in draw(4, 9))
    torch.manual_seed(0)
    loss = MEALV2()
    loss.setup(Signals(student), Signals(teacher))
    with torch.autocast("cpu", torch.bfloat16):
        got = loss(Signals(student), Signals(teacher))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, loss(Signals(student.float()), Signals(teacher.float())))


def test_defaults_and_needs():
    loss = MEALV2()
    assert (loss.critic_weight, loss.reduction, loss.variant) == (1.0, 8, "paper")
    needs = loss.needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("class",))
    with pytest.raises(ValueError, match=r"^MEALV2\.reduction must be > 0, got 0$"):
        MEALV2(reduction=0)
    with pytest.raises(ValueError, match=r"^MEALV2\.critic_weight must be >= 0, got -1"):
        MEALV2(critic_weight=-1.0)


def test_golden():
    check_parity("../teachers/meal_v2")
