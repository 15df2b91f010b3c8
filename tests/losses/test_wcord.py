"""WCoRD: both parts by loops, the Lipschitz constant, equality of the parts, messages."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.losses.wcord import Slow, WCoRD, critic_gap, transport_cost
from limbeck.types import Signals


def test_critic_by_loops(draw):
    s, t = draw(4, 3)
    together = sum((s[i] @ t[i]).item() for i in range(4)) / 4
    apart = sum((s[i] @ t[j]).item() for i in range(4) for j in range(4) if i != j) / 12
    assert critic_gap(s, t).item() == pytest.approx(apart - together, rel=1e-10)


@pytest.mark.parametrize(("epsilon", "rounds"), [(0.1, 20), (0.5, 3)])
def test_transport_by_loops(draw, epsilon, rounds):
    s, t = draw(3, 4)
    costs = [[1 - (a @ b / a.norm() / b.norm()).item() for b in s] for a in t]
    rows, columns = [1.0] * 3, [1.0] * 3
    kernel = [[math.exp(-c / epsilon) for c in row] for row in costs]
    for _ in range(rounds):
        rows = [1 / sum(k * c for k, c in zip(row, columns, strict=True)) for row in kernel]
        columns = [1 / sum(kernel[i][j] * rows[i] for i in range(3)) for j in range(3)]
    expected = sum(rows[i] * kernel[i][j] * columns[j] * costs[i][j] for i in range(3) for j in range(3)) / 3
    assert transport_cost(s, t, epsilon=epsilon, rounds=rounds).item() == pytest.approx(expected, rel=1e-8)


def test_transport_does_not_ask_who_is_whose(draw):
    """A cloud that lies on the other costs next to nothing, whatever the order; the critic minds the order."""
    x = torch.eye(4, dtype=torch.float64)
    shuffled = x[[2, 0, 3, 1]]
    assert transport_cost(shuffled, x, epsilon=0.05, rounds=50) < 1e-6
    assert critic_gap(x, x).item() == pytest.approx(-1)
    assert critic_gap(shuffled, x).item() == pytest.approx(1 / 3)


def test_a_slow_map_does_not_stretch(draw):
    (weight,), (x,) = draw(5, 3, count=1), draw(7, 3, count=1)
    layer = Slow(3, 5, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(9 * weight)
    torch.testing.assert_close(layer(x), x @ weight.T / torch.linalg.matrix_norm(weight, 2))
    gaps = torch.pdist(layer(x)) / torch.pdist(x)
    assert gaps.max() <= 1 + 1e-9

    def expected(w):
        return x @ w.T / torch.linalg.matrix_norm(w, 2)

    probe = torch.arange(35.0, dtype=torch.float64).reshape(7, 5)
    (got,) = torch.autograd.grad((layer(x) * probe).sum(), layer.weight)
    free = layer.weight.detach().clone().requires_grad_()
    (wanted,) = torch.autograd.grad((expected(free) * probe).sum(), free)
    torch.testing.assert_close(got, wanted)


def test_the_whole(draw):
    (s,), (t,) = draw(4, 3, 2, 2, count=1), draw(4, 5, count=1)
    loss = WCoRD(global_weight=0.5, local_weight=0.25, dim=6, epsilon=0.2, rounds=4)
    loss.setup(Signals.of(s), Signals.of(t))
    value = loss(Signals.of(s), Signals.of(t))
    assert value.shape == ()
    assert [tuple(p.shape) for p in loss.parameters()] == [(6, 3), (6, 5), (6, 3), (6, 5)]
    pooled = s.mean((2, 3))
    ours, theirs = loss.critics[0](pooled / pooled.norm(dim=1, keepdim=True)), loss.critics[1](t / t.norm(dim=1, keepdim=True))
    cost = transport_cost(loss.maps[0](pooled), loss.maps[1](t), epsilon=0.2, rounds=4)
    torch.testing.assert_close(value, 0.5 * critic_gap(ours, theirs) + 0.25 * cost)
    value.backward()
    assert all(p.grad.any() for p in loss.parameters())  # pyright: ignore[reportOptionalMemberAccess]


def test_equal_and_dead_features_are_finite(draw):
    (x,) = draw(3, 4, count=1)
    for ours, teacher in ((x, x), (torch.zeros_like(x), x), (torch.zeros_like(x), torch.zeros_like(x))):
        student = ours.clone().requires_grad_()
        loss = WCoRD(dim=4)
        loss.setup(Signals.of(student), Signals.of(teacher))
        loss.maps[1] = loss.maps[0]
        value = loss(Signals.of(student), Signals.of(teacher))
        value.backward()
        assert value.isfinite()
        assert student.grad is not None
        assert student.grad.isfinite().all()


def test_autocast_does_not_touch_it():
    s, t = torch.randn(2, 4, 8).unbind()
    loss = WCoRD(dim=4)
    loss.setup(Signals.of(s), Signals.of(t))
    expected = loss(Signals.of(s), Signals.of(t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)


def test_defaults_and_mistakes():
    loss = WCoRD()
    assert (loss.global_weight, loss.local_weight, loss.dim, loss.epsilon, loss.rounds) == (0.8, 0.05, 128, 0.1, 20)
    with pytest.raises(ValueError, match=r"^WCoRD\.epsilon must be >= 0\.05, got 0\.01$"):
        WCoRD(epsilon=0.01)
    for name in ("global_weight", "local_weight"):
        with pytest.raises(ValueError, match=rf"^WCoRD\.{name} must be >= 0, got -1$"):
            WCoRD(**{name: -1})
    x = Signals.of(torch.randn(2, 3))
    loss.setup(x, x)
    assert loss(x, x).isfinite()
    x = Signals.of(torch.ones(1, 3))
    loss.setup(x, x)
    text = r"^wcord compares the examples of a batch, found 1; use batches of two or more, and drop a smaller last one\.$"
    with pytest.raises(ShapeMismatch, match=text):
        loss(x, x)


def test_needs():
    needs = WCoRD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "any",
        True,
    )
