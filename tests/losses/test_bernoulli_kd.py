"""Bernoulli distillation: value by hand, an oracle by loops, independence of the labels."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.losses.bernoulli_kd import BernoulliKD, softened_bernoulli_kl
from limbeck.losses.kd import softened_kl
from limbeck.types import Signals


def test_value_by_hand():
    """Two labels: teacher 3/4 against student 1/2, and both 1/2."""
    teacher, student = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    got = BernoulliKD()(Signals(student), Signals(teacher))
    assert got.item() == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_oracle(draw, temperature):
    student, teacher = draw(3, 4)
    got = BernoulliKD(temperature=temperature)(Signals(student), Signals(teacher))
    for i in range(3):
        total = 0.0
        for k in range(4):
            p, q = (1 / (1 + math.exp(-x[i, k].item() / temperature)) for x in (teacher, student))
            total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        assert got[i].item() == pytest.approx(temperature**2 * total / 4, rel=1e-9)


def test_one_label_is_kd_of_two_classes(draw):
    student, teacher = draw(5, 1)
    pairs = (torch.cat([x, torch.zeros_like(x)], 1) for x in (student, teacher))
    torch.testing.assert_close(softened_bernoulli_kl(student, teacher, temperature=2.0), softened_kl(*pairs, temperature=2.0))


def test_labels_do_not_compete(draw):
    """Another answer to one label leaves the gradient of the others as it is; under a softmax it would not."""
    student, teacher = draw(2, 4)
    other = teacher.clone()
    other[:, 0] += 5
    grads = []
    for target in (teacher, other):
        x = student.clone().requires_grad_()
        BernoulliKD()(Signals(x), Signals(target)).sum().backward()
        grads.append(x.grad)
    assert torch.equal(grads[0][:, 1:], grads[1][:, 1:])
    assert not torch.equal(grads[0][:, 0], grads[1][:, 0])


def test_tokens_give_one_value_each(draw):
    student, teacher = draw(2, 3, 4)
    got = BernoulliKD()(Signals(student), Signals(teacher))
    assert got.shape == (2, 3)
    torch.testing.assert_close(got[1], BernoulliKD()(Signals(student[1]), Signals(teacher[1])))


def test_half_precision_is_divided_in_float32():
    student, teacher = torch.tensor([[60000.0]]).half(), torch.tensor([[0.0]]).half()
    got = softened_bernoulli_kl(student, teacher, temperature=0.5)
    torch.testing.assert_close(got, torch.tensor([0.5 * 119968.0 - math.log(2)]), rtol=1e-3, atol=0)
    back = softened_bernoulli_kl(teacher, student, temperature=0.5)
    torch.testing.assert_close(back, torch.tensor([math.log(2)]))


def test_defaults_and_bounds():
    assert BernoulliKD().temperature == 1.0
    with pytest.raises(ValueError, match=r"^BernoulliKD\.temperature must be > 0, got 0$"):
        BernoulliKD(temperature=0)


def test_needs():
    needs = BernoulliKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("multilabel",))
