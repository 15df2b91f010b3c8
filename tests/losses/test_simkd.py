"""SimKD: an oracle from separate operations, sizes, the reused classifier."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from limbeck.losses.simkd import SimKD, same_size
from limbeck.types import Head, Signals


def made(student, teacher, **fields) -> Any:
    loss = SimKD(**fields)
    loss.setup(Signals.of(student), Signals.of(teacher))
    return loss


def test_oracle(draw):
    (student,), (teacher,) = draw(4, 3, 4, 4, count=1), draw(4, 6, 2, 2, count=1, seed=1)
    loss = made(student, teacher, factor=3)
    convolutions = [m.weight for m in loss.projector.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [tuple(w.shape) for w in convolutions] == [(2, 3, 1, 1), (2, 2, 3, 3), (6, 2, 1, 1)]
    x = F.avg_pool2d(student, 2)
    for weight, padding in zip(convolutions, (0, 1, 0), strict=True):
        x = F.relu(F.batch_norm(F.conv2d(x, weight, padding=padding), None, None, training=True))
    expected = ((x - teacher) ** 2).flatten(1).sum(1) / (6 * 2 * 2)
    torch.testing.assert_close(loss(Signals.of(student), Signals.of(teacher)), expected)


def test_the_larger_map_is_pooled(draw):
    (a,), (b,) = draw(2, 3, 4, 6, count=1), draw(2, 5, 2, 3, count=1)
    for pair in (same_size(a, b), same_size(b, a)[::-1]):
        torch.testing.assert_close(pair[0], F.avg_pool2d(a, 2))
        assert torch.equal(pair[1], b)
    assert same_size(a.half(), b)[0].dtype == torch.float32
    assert same_size(a, b)[1] is b  # nothing is computed where the size is right
    assert same_size(b, a)[0] is b
    assert same_size(a, b[:, :, 0, 0])[0].shape == (2, 3, 1, 1)


def test_the_teachers_classifier_answers(draw):
    (student,), (teacher,), (weight,) = draw(4, 3, 2, 2, count=1), draw(4, 6, 2, 2, count=1, seed=1), draw(5, 6, count=1, seed=2)
    loss = made(student, teacher).eval()
    head = Head(weight, torch.arange(5.0, dtype=torch.float64))
    expected = loss.projector(student).mean((2, 3)) @ weight.T + torch.arange(5.0)
    torch.testing.assert_close(loss.classify(student, head), expected)
    torch.testing.assert_close(loss.classify(student.flatten(2).mT, head), expected)
    torch.testing.assert_close(loss.classify(student, Head(weight)), expected - torch.arange(5.0))
    loss, narrow = loss.float(), Head(weight.bfloat16(), torch.arange(5.0).bfloat16())
    wide = Head(weight.bfloat16().float(), torch.arange(5.0))
    torch.testing.assert_close(loss.classify(student.float(), narrow), loss.classify(student.float(), wide))


def test_projector_learns_and_has_at_least_one_channel(draw):
    (student,), (teacher,) = draw(4, 3, 2, 2, count=1), draw(4, 1, 2, 2, count=1, seed=1)
    loss = made(student, teacher)
    loss(Signals.of(student), Signals.of(teacher)).sum().backward()
    assert all(p.grad is not None for p in loss.parameters())
    assert loss.projector[0][0].weight.shape[0] == 1
    assert SimKD().factor == 2


def test_precision_is_kept():
    student, teacher = torch.randn(2, 4, 6, 2, 2).unbind()
    loss = made(student, teacher)
    expected = loss(Signals.of(student), Signals.of(teacher))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(Signals.of(student), Signals.of(teacher)), expected)


def test_needs():
    needs = SimKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "any",
        False,
    )
