"""Semantic calibration: an oracle from separate operations, the sizes of batch, the attention's limits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import SignalMissing
from limbeck.losses.semckd import Direction, SemCKD, projector
from limbeck.types import Signals


def made(student, teacher, **fields) -> Any:
    loss = SemCKD(**fields)
    loss.setup(student, teacher)
    return loss


def test_oracle(draw):
    (s0,), (s1,), (t0,), (t1,) = (draw(6, c, n, n, count=1, seed=c) for c, n in ((3, 4), (4, 2), (5, 2), (2, 4)))
    student, teacher = Signals.of(s0, s1), Signals.of(t0, t1)
    loss = made(student, teacher, batch=6, factor=2)

    def direction(layer, x):
        rows = x.flatten(1) @ x.flatten(1).T
        hidden = layer.first(rows)
        out = layer.second((hidden / hidden.norm(dim=1, keepdim=True)).relu())
        return out / out.norm(dim=1, keepdim=True)

    expected = torch.zeros(6, dtype=torch.float64)
    for i, s in enumerate((s0, s1)):
        logits = torch.stack([(direction(loss.queries[i], s) * direction(loss.keys[j], t)).sum(1) for j, t in enumerate((t0, t1))], 1)
        for j, t in enumerate((t0, t1)):
            a, b = (F.adaptive_avg_pool2d(x, min(s.shape[-1], t.shape[-1])) for x in (s, t))
            gap = ((loss.projectors[i][j](a) - b) ** 2).flatten(1).mean(1)
            expected = expected + logits.softmax(1)[:, j] * gap
    torch.testing.assert_close(loss(student, teacher), expected.sum() / (6 * 2))


def test_projector_has_three_convolutions(draw):
    (student,), (teacher,) = draw(4, 3, 4, 4, count=1), draw(4, 5, 4, 4, count=1)
    layers = projector(student, teacher)
    assert [tuple(m.weight.shape) for m in layers.modules() if isinstance(m, torch.nn.Conv2d)] == [
        (10, 3, 1, 1),
        (10, 10, 3, 3),
        (5, 10, 1, 1),
    ]
    x = student
    convolutions = [m for m in layers.modules() if isinstance(m, torch.nn.Conv2d)]
    for conv, padding in zip(convolutions[:2], (0, 1), strict=True):
        x = F.relu(F.batch_norm(F.conv2d(x, conv.weight, padding=padding), None, None, training=True))
    torch.testing.assert_close(layers(student), F.conv2d(x, convolutions[2].weight))


@pytest.mark.parametrize(("made_for", "given"), [(6, 4), (3, 4)])
def test_another_size_of_batch(draw, made_for, given):
    (x,) = draw(given, 5, count=1)
    layer = Direction(made_for, 2, x)
    rows = x @ x.T
    full = torch.zeros(given, made_for, dtype=x.dtype)
    full[:, : min(given, made_for)] = rows[:, :made_for]
    hidden = layer.first(full)
    out = layer.second((hidden / hidden.norm(dim=1, keepdim=True)).relu())
    torch.testing.assert_close(layer(x), out / out.norm(dim=1, keepdim=True))
    assert layer.first.weight.shape == (4, made_for)


def test_one_teacher_layer_has_all_the_attention(draw):
    (s,), (t,) = draw(4, 3, 2, 2, count=1), draw(4, 5, 2, 2, count=1)
    loss = made(Signals.of(s), Signals.of(t))
    assert loss.attention([s], [t]).tolist() == [[[1.0]]] * 4
    expected = (loss.projectors[0][0](s) - t).square().mean()
    torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)


def test_everything_learns_and_defaults(draw):
    (s0,), (s1,), (t0,), (t1,) = (draw(5, c, 4, 4, count=1, seed=c) for c in (3, 4, 5, 6))
    loss = made(Signals.of(s0, s1), Signals.of(t0, t1))
    loss(Signals.of(s0, s1), Signals.of(t0, t1)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
    assert (loss.batch, loss.factor) == (64, 4)
    assert loss.queries[0].second.weight.shape == (16, 32)
    assert made(Signals.of(s0), Signals.of(t0), batch=2).queries[0].second.weight.shape[0] == 1


def test_precision_is_kept():
    student, teacher = Signals.of(torch.randn(4, 3, 4, 4)), Signals.of(torch.randn(4, 5, 4, 4), torch.randn(4, 2, 2, 2))
    loss = made(student, teacher)
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(student, teacher), expected)


def test_a_teacher_in_another_precision(draw):
    (s,), (t,) = draw(4, 3, 2, 2, count=1), draw(4, 5, 2, 2, count=1)
    loss = made(Signals.of(s), Signals.of(t), batch=4)
    torch.testing.assert_close(loss.attention([s], [t.float()]), loss.attention([s], [t.float().double()]))


def test_layers_are_needed(draw):
    (s0,) = draw(5, 3, 4, 4, count=1)
    with pytest.raises(SignalMissing, match=r"semckd links layers, found 1 of the student and 0 of the teacher; name some on both sides\."):
        SemCKD().setup(Signals.of(s0), Signals())
    needs = SemCKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "any",
        True,
    )
