"""Attention-guided distillation: an oracle by loops, masks as constants, relations written out."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.losses.attention_guided import AttentionGuided, Relations, attention_gap, guided_gap
from limbeck.types import Signals


def softmax(values):
    total = sum(math.exp(v - max(values)) for v in values)
    return [math.exp(v - max(values)) / total for v in values]


def oracle(s, t, temperature):
    """Attention and feature terms of one example `(channels, positions)`."""
    c, p = s.shape
    s, t = s.tolist(), t.tolist()

    def means(x):
        return [sum(abs(x[i][j]) for i in range(c)) / c for j in range(p)], [sum(map(abs, x[i])) / p for i in range(c)]

    (gs, cs), (gt, ct) = means(s), means(t)
    attention = math.dist(gs, gt) + math.dist(cs, ct)
    spatial = [p * v for v in softmax([(a + b) / temperature for a, b in zip(gs, gt, strict=True)])]
    channel = [c * v for v in softmax([(a + b) / temperature for a, b in zip(cs, ct, strict=True)])]
    total = sum(spatial[j] * channel[i] * (s[i][j] - t[i][j]) ** 2 for i in range(c) for j in range(p))
    return attention, math.sqrt(total)


@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_oracle(draw, temperature):
    (s1, s2), (t1, t2) = draw(2, 3, 2, 2, seed=1), draw(2, 3, 2, 2, seed=2)
    loss = AttentionGuided(alpha=0.5, beta=0.25, gamma=0, temperature=temperature)
    loss.setup(Signals.of(s1, s2), Signals.of(t1, t2))
    assert not list(loss.parameters())
    got = loss(Signals.of(s1, s2), Signals.of(t1, t2))
    for b in range(2):
        parts = [oracle(s[b].flatten(1), t[b].flatten(1), temperature) for s, t in ((s1, t1), (s2, t2))]
        assert got[b].item() == pytest.approx(sum(0.5 * a + 0.25 * g for a, g in parts), rel=1e-9)


def test_relations_are_a_non_local_module(draw):
    (x,) = draw(2, 5, 4, count=1)
    module = Relations(x)
    assert module.width == 2
    query, key, value = module.project(x.mT).split(2, -1)
    expected = torch.zeros(2, 4, 2, dtype=torch.float64)
    for b in range(2):
        for p in range(4):
            for q in range(4):
                expected[b, p] += (query[b, p] @ key[b, q]) * value[b, q] / 4
    torch.testing.assert_close(module(x), expected)
    assert Relations(torch.zeros(1, 1, 2)).width == 1


def test_relations_are_learned_one_module_a_model_and_layer(draw):
    s, t = draw(2, 4, 2, 2)
    loss = AttentionGuided(alpha=0, beta=0, gamma=0.5)
    loss.setup(Signals.of(s, s), Signals.of(t, t))
    assert len(list(loss.parameters())) == 2 * 2 * 2
    value = loss(Signals.of(s, s), Signals.of(t, t))
    expected = 0
    for ours, theirs in loss.relations:  # pyright: ignore[reportGeneralTypeIssues]
        expected = expected + 0.5 * (ours(s.flatten(2)) - theirs(t.flatten(2))).square().sum((1, 2)).sqrt()
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    assert all(p.grad.any() for p in loss.parameters())  # pyright: ignore[reportOptionalMemberAccess]


def test_masks_are_constants(draw):
    """The gradient is that of the weighted distance with the masks held."""
    (s,), (t,) = draw(2, 3, 4, count=1), draw(2, 3, 4)[1:]
    s.requires_grad_()
    guided_gap(s, t, temperature=0.5).sum().backward()
    with torch.no_grad():
        strength = s.abs() + t.abs()
        spatial = 4 * (strength.mean(1, keepdim=True) / 0.5).softmax(2)
        channel = 3 * (strength.mean(2, keepdim=True) / 0.5).softmax(1)
    held = s.detach().requires_grad_()
    (spatial * channel * (held - t).square()).sum((1, 2)).sqrt().sum().backward()
    torch.testing.assert_close(s.grad, held.grad)


def test_gradient_of_the_attention(draw):
    (s,), (t,) = draw(2, 3, 4, count=1), draw(2, 3, 4)[1:]
    torch.autograd.gradcheck(lambda x: attention_gap(x, t), (s.requires_grad_(),))


def test_equality_and_zeros_are_finite(draw):
    (x,) = draw(2, 3, 2, 2, count=1)
    for same in (x, torch.zeros_like(x)):
        student = same.clone().requires_grad_()
        loss = AttentionGuided(gamma=0)
        loss.setup(Signals.of(student), Signals.of(same))
        value = loss(Signals.of(student), Signals.of(same))
        value.sum().backward()
        assert not value.any()
        assert student.grad.isfinite().all()  # pyright: ignore[reportOptionalMemberAccess]


def test_autocast_does_not_touch_the_relations():
    s, t = torch.randn(2, 2, 4, 3, 3).unbind()
    loss = AttentionGuided(gamma=1.0)
    loss.setup(Signals.of(s), Signals.of(t))
    expected = loss(Signals.of(s), Signals.of(t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)


def test_defaults_and_mistakes():
    loss = AttentionGuided()
    assert (loss.alpha, loss.beta, loss.gamma, loss.temperature) == (7e-5, 4e-3, 7e-5, 0.1)
    with pytest.raises(ValueError, match=r"^AttentionGuided\.temperature must be > 0, got 0$"):
        AttentionGuided(temperature=0)
    with pytest.raises(ShapeMismatch, match=r"student \[1, 2, 4\] and teacher \[1, 3, 4\]"):
        AttentionGuided(gamma=0)(Signals.of(torch.zeros(1, 2, 2, 2)), Signals.of(torch.zeros(1, 3, 2, 2)))


def test_needs():
    needs = AttentionGuided().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "full",
        False,
    )


@pytest.mark.parametrize("weight", ["alpha", "beta", "gamma"])
def test_weights_are_not_negative(weight):
    assert AttentionGuided(**{weight: 0}) is not None
    with pytest.raises(ValueError, match=rf"^AttentionGuided\.{weight} must be >= 0, got -1$"):
        AttentionGuided(**{weight: -1})
