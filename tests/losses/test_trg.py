"""Token relation graph: each part by loops, zero at equality, slices, sampling, what is learned."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import ShapeMismatch
from limbeck.losses.trg import TRG, graph_gap, inner_gap
from limbeck.types import Signals


def softmax(values):
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def graph_rows(x, k, width):
    n = len(x)
    squares = [[(x[i] - x[j]).square().sum().item() for j in range(n)] for i in range(n)]
    rows = []
    for i in range(n):
        row = []
        for j in range(n):
            nearest = sorted((m for m in range(n) if m != j), key=lambda m, j=j: squares[m][j])[:k]
            row.append(math.exp(-squares[i][j] / (2 * width)) if i in nearest else 0.0)
        rows.append(softmax(row))
    return rows


@pytest.mark.parametrize("chunk", [1, 3, 6, 10])
@pytest.mark.parametrize(("k", "width"), [(1, 1.0), (2, 0.3), (4, 1.0), (50, 1.0)])
def test_graph_by_loops(draw, k, width, chunk):
    s, t = draw(6, 3)
    expected = sum(
        sum(p * math.log(p / q) for p, q in zip(a, b, strict=True))
        for a, b in zip(graph_rows(s, k, width), graph_rows(t, k, width), strict=True)
    )
    s.requires_grad_()
    value = graph_gap(s, t, neighbours=k, width=width, chunk=chunk)
    assert value.item() == pytest.approx(expected / 6, rel=1e-8)
    (gradient,) = torch.autograd.grad(value, s)
    (whole,) = torch.autograd.grad(graph_gap(s, t, neighbours=k, width=width, chunk=6), s)
    torch.testing.assert_close(gradient, whole)


def test_inner_by_loops(draw):
    (s,), (t,) = draw(2, 3, 4, count=1), draw(2, 3, 5, count=1)
    total = 0.0
    for b in range(2):
        for i in range(3):
            ours, theirs = (softmax([(x[b, i] @ x[b, j]).item() / math.sqrt(x.shape[2]) for j in range(3)]) for x in (s, t))
            total += sum((p - q) ** 2 for p, q in zip(ours, theirs, strict=True))
    assert inner_gap(s, t).item() == pytest.approx(total / 18, rel=1e-9)


def test_parts_are_zero_at_equality(draw):
    (x,) = draw(3, 4, 2, 2, count=1)
    student = x.clone().requires_grad_()
    loss = TRG(gamma=0)
    loss.setup(Signals.of(student), Signals.of(x))
    assert not list(loss.parameters())
    value = loss(Signals.of(student), Signals.of(x))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.isfinite().all()


def test_the_whole(draw):
    (s,), (t,) = draw(3, 4, 5, 1, count=1), draw(3, 6, 5, 1, count=1)
    loss = TRG(alpha=0.5, beta=0.25, gamma=2.0, neighbours=2, width=0.5, temperature=0.3, sample=2, chunk=4)
    loss.setup(Signals.of(s), Signals.of(t))
    value = loss(Signals.of(s), Signals.of(t))
    assert [tuple(p.shape) for p in loss.parameters()] == [(6, 4), (6,)]
    ours, theirs = s.flatten(2).mT, t.flatten(2).mT
    places = [1, 3]  # of five positions, evenly spaced
    tokens = [x[:, places].flatten(0, 1) for x in (ours, theirs)]
    nodes = [F.normalize(x, dim=1) for x in tokens]
    scores = F.normalize(loss.project(tokens[0]), dim=1) @ nodes[1].T / 0.3
    expected = 0.5 * inner_gap(ours, theirs) + 0.25 * graph_gap(*nodes, neighbours=2, width=0.5, chunk=9)
    torch.testing.assert_close(value, expected + 2.0 * F.cross_entropy(scores, torch.arange(6)))
    value.backward()
    assert all(p.grad.any() for p in loss.parameters())  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(("positions", "sample", "places"), [(9, 3, [1, 4, 7]), (4, 8, [0, 1, 2, 3]), (16, 1, [8]), (49, 2, [12, 36])])
def test_positions_are_evenly_spaced(positions, sample, places):
    tokens = torch.arange(positions)[None, :, None].expand(2, -1, 3)
    got = TRG(sample=sample)._sampled(tokens)
    assert got[:, 0].tolist() == places * 2
    assert got.shape[1] == 3


@pytest.mark.parametrize("channels", [(4, 5), (5, 4)])
def test_only_channels_decide_whether_there_is_a_map(channels):
    loss = TRG()
    loss.setup(*(Signals.of(torch.zeros(2, width, 5, 1)) for width in channels))
    assert [tuple(p.shape) for p in loss.parameters()] == [(channels[1], channels[0]), (channels[1],)]


def test_dead_features_and_single_examples_are_finite():
    for batch in (1, 3):
        student = torch.zeros(batch, 4, 2, 2, requires_grad=True)
        teacher = torch.randn(batch, 4, 2, 2)
        loss = TRG()
        loss.setup(Signals.of(student), Signals.of(teacher))
        value = loss(Signals.of(student), Signals.of(teacher))
        value.backward()
        assert value.isfinite()
        assert student.grad is not None
        assert student.grad.isfinite().all()


def test_autocast_does_not_touch_it():
    s, t = torch.randn(2, 4, 8, 2, 2).unbind()
    loss = TRG()
    loss.setup(Signals.of(s), Signals.of(t[:, :6]))
    expected = loss(Signals.of(s), Signals.of(t[:, :6]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(Signals.of(s), Signals.of(t[:, :6])), expected)


def test_defaults_and_mistakes():
    loss = TRG()
    assert (loss.alpha, loss.beta, loss.gamma, loss.neighbours, loss.width) == (1.0, 1.0, 1.0, 8, 1.0)
    assert (loss.temperature, loss.sample, loss.chunk) == (0.1, 8, 512)
    with pytest.raises(ValueError, match=r"^TRG\.neighbours must be > 0, got 0$"):
        TRG(neighbours=0)
    for name in ("alpha", "beta", "gamma"):
        with pytest.raises(ValueError, match=rf"^TRG\.{name} must be >= 0, got -1$"):
            TRG(**{name: -1})
    for name in ("width", "temperature"):
        with pytest.raises(ValueError, match=rf"^TRG\.{name} must be > 0, got 0$"):
            TRG(**{name: 0})
    loss.setup(Signals.of(torch.zeros(2, 3, 2, 2)), Signals.of(torch.zeros(2, 3, 2, 2)))
    with pytest.raises(ShapeMismatch, match=r"student \[2, 4, 4\] and teacher \[2, 1, 1\] must have the same shape"):
        loss(Signals.of(torch.zeros(2, 3, 2, 2)), Signals.of(torch.zeros(2, 3, 1, 1)))


def test_needs():
    needs = TRG().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "space",
        True,
    )
