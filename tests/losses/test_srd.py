"""Simple recipe distillation: value by hand, an oracle, extremes, layouts, golden numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.srd import SRD, log_sum_gap
from limbeck.types import Signals


def made(student, teacher, **fields) -> Any:
    loss = SRD(**fields)
    loss.setup(student, teacher)
    return loss


def test_log_sum_by_hand():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[0.0, 4.0], [0.0, 2.0]])
    assert log_sum_gap(student, teacher, alpha=1.0).item() == pytest.approx(math.log(1 + 2 + 3))
    assert log_sum_gap(student, teacher, alpha=4.0).item() == pytest.approx(math.log(1 + 16 + 81))


@pytest.mark.parametrize("alpha", [1.0, 2.5, 4.0])
def test_value_and_gradient_are_those_of_the_plain_formula(draw, alpha):
    s, t = draw(3, 4)
    values = []
    for formula in (lambda a, b: log_sum_gap(a, b, alpha=alpha), lambda a, b: (a - b).abs().pow(alpha).sum().log()):
        own = s.clone().requires_grad_()
        value = formula(own, t)
        value.backward()
        values.append((value.detach(), own.grad))
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extremes_are_finite(scale):
    x = torch.tensor([[1.0, 3.0]]) * scale
    x.requires_grad_()
    value = log_sum_gap(x, torch.zeros(1, 2), alpha=4.0)
    value.backward()
    assert value.item() == pytest.approx(math.log(82) + 4 * math.log(scale), rel=1e-5)
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0


def test_half_precision_is_widened():
    s, t = torch.randn(2, 3, 4).bfloat16().unbind()
    assert torch.equal(log_sum_gap(s, t, alpha=4.0), log_sum_gap(s.float(), t.float(), alpha=4.0))


def test_equal_embeddings_are_finite_and_do_not_pull():
    x = torch.ones(2, 3, requires_grad=True)
    value = log_sum_gap(x, torch.ones(2, 3), alpha=4.0)
    value.backward()
    assert value.item() == pytest.approx(4 * math.log(torch.finfo(torch.float32).tiny))
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_oracle(draw, variant):
    (s,), (t,) = draw(4, 3, 2, 2, count=1), draw(4, 5, 3, 3, count=1, seed=8)
    t = 10 * t
    student, teacher = Signals.of(s), Signals.of(t)
    loss = made(student, teacher, variant=variant)
    weight, bias = loss.project.weight, loss.project.bias
    ours, theirs = s.mean((2, 3)) @ weight.T + bias, t.mean((2, 3))

    def normalised(x):
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-4).sqrt()

    expected = (normalised(ours) - normalised(theirs)).abs().pow(4).sum().log()
    torch.testing.assert_close(loss(student, teacher), (2 if variant == "official" else 1) * expected)


def test_each_side_has_its_own_running_statistics(draw):
    (s,), (t,) = draw(6, 3, count=1), draw(6, 5, count=1, seed=8)
    loss = made(Signals.of(s), Signals.of(10 * t + 3))
    for _ in range(60):  # until the running statistics are those of the batch
        loss(Signals.of(s), Signals.of(10 * t + 3))
    assert [tuple(norm.running_mean.shape) for norm in loss.norms] == [(5,), (5,)]
    ours, theirs = loss.project(s), 10 * t + 3
    torch.testing.assert_close(loss.norms[0].running_mean, ours.mean(0), rtol=0.01, atol=0.01)
    torch.testing.assert_close(loss.norms[1].running_mean, theirs.mean(0), rtol=0.01, atol=0.01)
    gap = [(x - norm.running_mean) / (norm.running_var + 1e-4).sqrt() for x, norm in zip((ours, theirs), loss.norms, strict=True)]
    expected = (gap[0] - gap[1]).abs().pow(4).sum().log()
    torch.testing.assert_close(loss.eval()(Signals.of(s), Signals.of(theirs)), expected)


def test_tokens_and_vectors(draw):
    (s,), (t,) = draw(4, 3, 2, 2, count=1), draw(4, 5, 3, 3, count=1, seed=8)
    loss = made(Signals.of(s), Signals.of(t))
    expected = loss(Signals.of(s), Signals.of(t))
    torch.testing.assert_close(loss(Signals.of(s.flatten(2).mT), Signals.of(t.flatten(2).mT)), expected)
    torch.testing.assert_close(loss(Signals.of(s.mean((2, 3))), Signals.of(t.mean((2, 3)))), expected)


def test_the_logarithm_makes_the_gradient_independent_of_the_sum(draw):
    s, t = draw(3, 4)
    gradients = []
    for copies in (1, 5):
        own = s.clone().requires_grad_()
        log_sum_gap(own.repeat(copies, 1), t.repeat(copies, 1), alpha=4.0).backward()
        gradients.append(own.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_one_example_and_autocast():
    student, teacher = Signals.of(torch.randn(1, 3)), Signals.of(torch.randn(1, 5))
    loss = made(student, teacher)
    expected = loss(student, teacher)
    assert expected.isfinite()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(student, teacher), expected)
    assert made(Signals.of(torch.zeros(2, 3, device="meta")), Signals.of(torch.zeros(2, 5, device="meta"))).project.weight.is_meta
    assert not list(loss.norms.parameters())
    assert loss(Signals.of(torch.randn(3, 3).double()), Signals.of(torch.randn(3, 5).double())).isfinite()


def test_defaults_needs_and_mistakes():
    assert (SRD().alpha, SRD().variant) == (4.0, "paper")
    with pytest.raises(ValueError, match=r"^SRD\.alpha must be >= 1, got 0\.5$"):
        SRD(alpha=0.5)
    with pytest.raises(ValueError, match=r"^SRD\.variant must be one of 'paper', 'official', got 'zoo'$"):
        SRD(variant="zoo")  # pyright: ignore[reportArgumentType]
    needs = SRD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "any",
        True,
    )
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3\] and teacher \[2, 4\] must have the same shape"):
        log_sum_gap(torch.zeros(2, 3), torch.zeros(2, 4), alpha=1.0)


def test_golden():
    check_parity("srd", "srd_projector")
