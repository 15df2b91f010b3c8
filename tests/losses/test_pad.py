"""Prime-aware adaptive distillation: value by hand, an oracle, extremes, layouts, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.pad import PAD, adaptive_gap
from limbeck.types import Signals


def made(student, teacher, **fields):
    loss = PAD(**fields)
    loss.setup(student, teacher)
    return loss


def test_value_by_hand():
    """Error 9 at variance 1/2 + 3/2, and error 4 at variance 1/2 + 1."""
    got = adaptive_gap(torch.tensor([[1.0, 3.0]]), torch.tensor([[4.0, 1.0]]), torch.tensor([[math.log(1.5), 0.0]]), epsilon=0.5)
    assert got.tolist() == [pytest.approx([9 / 2 + math.log(1.5), 4 / 1.5])]


def test_without_epsilon_the_best_variance_is_the_squared_error():
    """The likelihood of a Gaussian: its derivative by the log-variance is 1 - error / variance."""
    log_variance = torch.tensor([[math.log(9.0), 0.0]], requires_grad=True)
    adaptive_gap(torch.tensor([[1.0, 1.0]]), torch.tensor([[4.0, 4.0]]), log_variance, epsilon=0.0).sum().backward()
    assert log_variance.grad.tolist() == [pytest.approx([0.0, 1 - 9.0], abs=1e-5)]


def test_extreme_variances_are_finite():
    log_variance = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    student = torch.tensor([[0.0, 0.0, 1e4]], requires_grad=True)
    value = adaptive_gap(student, torch.ones(1, 3), log_variance, epsilon=1e-6)
    value.sum().backward()
    assert value[0, :2].tolist() == pytest.approx([1e4, 1e6 - 1e4], rel=1e-4)
    assert log_variance.grad.isfinite().all()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_oracle(draw, epsilon):
    s, t = draw(4, 3, 2, 2)
    loss = made(Signals.of(s), Signals.of(t), epsilon=epsilon)
    weight = loss.variance[0].weight[:, :, 0, 0]
    mapped = torch.einsum("dc,nchw->ndhw", weight, s)
    mapped = (mapped - mapped.mean((0, 2, 3), keepdim=True)) / (mapped.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    expected = (t - s).square() / (epsilon + mapped.exp()) + mapped
    got = loss(Signals.of(s), Signals.of(t))
    torch.testing.assert_close(got, expected.flatten(2))
    tokens = [x.flatten(2).mT for x in (s, t)]
    torch.testing.assert_close(loss(*map(Signals.of, tokens)), got)


def test_half_precision_is_widened():
    s, t, v = torch.randn(3, 4, 5).bfloat16().unbind()
    assert torch.equal(adaptive_gap(s, t, v, epsilon=0.1), adaptive_gap(s.float(), t.float(), v.float(), epsilon=0.1))


def test_vectors_one_example_and_autocast():
    student, teacher = Signals.of(torch.randn(1, 3)), Signals.of(torch.randn(1, 3))
    loss = made(student, teacher)
    value = loss(student, teacher)
    assert value.shape == (1, 3, 1)
    assert value.isfinite().all()
    student, teacher = Signals.of(torch.randn(5, 3)), Signals.of(torch.randn(5, 3))
    expected = loss(student, teacher)
    torch.testing.assert_close(
        expected[..., 0],
        adaptive_gap(
            student.feature,
            teacher.feature,
            F.batch_norm(student.feature @ loss.variance[0].weight[:, :, 0, 0].T, None, None, training=True),
            epsilon=1e-6,
        ),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(student, teacher), expected)


def test_the_variance_learns(draw):
    s, t = draw(4, 3)
    loss = made(Signals.of(s), Signals.of(t))
    loss(Signals.of(s), Signals.of(t)).mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in loss.parameters())
    assert sum(p.numel() for p in loss.parameters()) == 3 * 3 + 2 * 3


def test_defaults_needs_and_mistakes():
    assert PAD().epsilon == 1e-6
    with pytest.raises(ValueError, match=r"^PAD\.epsilon must be >= 0, got -1$"):
        PAD(epsilon=-1)
    needs = PAD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "full",
        False,
    )
    x = torch.zeros(2, 3)
    for arguments in ((x, torch.zeros(2, 4), x), (x, x, torch.zeros(2, 4))):
        with pytest.raises(ShapeMismatch, match=r"\[2, 3\] and teacher \[2, 4\] must have the same shape"):
            adaptive_gap(*arguments, epsilon=0.0)


def test_golden():
    check_parity("pad")
