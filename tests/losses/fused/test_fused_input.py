"""What the fused loss refuses."""

from __future__ import annotations

import math
import re

import pytest
import torch
from tests.losses.fused.world import World

from limbeck.errors import LimbeckError, ShapeMismatch
from limbeck.losses.fused import Hidden, Measure, Projection, Sampled, fused_divergence, fused_divergences, fused_sums


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"mixture": 0.0},
        {"mixture": 1.0},
        {"skew": -0.1},
        {"skew": 1.0},
        {"weight": -1.0},
        {"label_weight": -0.5},
        {"skew": math.nan},
    ],
)
def test_what_a_measure_can_be(wrong):
    found = {"temperature": 1.0, "mixture": 0.5, "skew": 0.1, "weight": 1.0, "label_weight": 0.0} | wrong
    numbers = "{temperature}, {mixture}, {skew}, {weight} and {label_weight}".format(**found)
    message = "a fused divergence needs temperature > 0, mixture in (0, 1), skew in [0, 1), weight >= 0 and label_weight >= 0, got "
    with pytest.raises(LimbeckError, match=f"^{re.escape(message + numbers)}\\.$"):
        Measure(**wrong)
    assert Measure(skew=0.0, weight=0.0, label_weight=0.0).skew == 0


def test_messages():
    world = World.make()
    head, teacher = Projection(world.weight), Hidden(world.hidden, Projection(world.theirs))
    other = "the teacher has 60 tokens in its vocabulary and the student 61. Cut the rows that only pad the larger head (weight[:n]); "
    other += "other vocabularies need a loss across tokenizers."
    with pytest.raises(
        ShapeMismatch, match=r"^the student's hidden states \[23, 11\] do not fit its head \[61, 12\]; give \(tokens, width\)\.$"
    ):
        fused_divergence(world.student[:, 1:], head, teacher)
    with pytest.raises(ShapeMismatch, match=r"the teacher's \[22, 17\] do not fit the student's 23 tokens"):
        fused_divergence(world.student, head, Hidden(world.hidden[1:], teacher.head))
    with pytest.raises(ShapeMismatch, match=re.escape(other)):
        fused_divergence(world.student, head, Hidden(world.hidden, Projection(world.theirs[1:])))
    with pytest.raises(ShapeMismatch, match=r"hidden states \[23, 16\] do not fit its head \[61, 17\]"):
        fused_divergence(world.student, head, Hidden(world.hidden[:, 1:], teacher.head))
    with pytest.raises(ShapeMismatch, match=r"label_weight 0.5 needs labels \[23\], found none"):
        fused_divergence(world.student, head, teacher, Measure(label_weight=0.5))
    alone = r"^a divergence of weight 0.3 needs a teacher, found none; weight 0 leaves the cross-entropy alone\.$"
    with pytest.raises(LimbeckError, match=alone):
        fused_sums(world.student, head, None, Measure(weight=0.3, label_weight=1.0), labels=world.labels)
    with pytest.raises(LimbeckError, match=alone):
        fused_divergences(world.student, head, None, Measure(weight=0.3))
    with pytest.raises(LimbeckError, match=r"estimate divergence 'forward' only, got 'js'; store its likeliest tokens instead\.$"):
        fused_divergence(world.student, head, Sampled(torch.zeros(23, 1, dtype=torch.long), torch.ones(23, 1)), Measure(divergence="js"))
    with pytest.raises(ShapeMismatch, match=r"the teacher's \[22, 17\] do not fit the student's 23 tokens"):
        fused_divergences(world.student, head, Hidden(world.hidden[1:], teacher.head))
    student = world.student.clone().requires_grad_()
    value = fused_divergence(student, head, teacher)
    value.backward(retain_graph=True)
    with pytest.raises(LimbeckError, match="used up by its first backward pass"):
        value.backward()
