"""Variational information distillation: a value by hand, the normal density, the networks, golden numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.losses.parity import check_parity
from torch.distributions import Normal

from limbeck.errors import ShapeMismatch
from limbeck.losses.vid import VID, negative_log_density
from limbeck.types import Signals


def ready(student, teacher, **fields) -> Any:
    torch.manual_seed(0)
    loss = VID(**fields)
    loss.setup(Signals.of(student), Signals.of(teacher))
    return loss


def test_value_by_hand():
    mean, teacher = torch.tensor([[[[1.0]], [[2.0]]]]), torch.tensor([[[[4.0]], [[0.0]]]])
    got = negative_log_density(mean, torch.tensor([2.0, 0.5]), teacher).flatten().tolist()
    assert got == pytest.approx([(9 / 2 + math.log(2)) / 2, (4 / 0.5 + math.log(0.5)) / 2])
    with pytest.raises(ShapeMismatch, match=r"^student \[1, 2, 1, 1\] and teacher \[1, 1, 1, 1\] must have the same shape"):
        negative_log_density(mean, torch.tensor([2.0, 0.5]), teacher[:, :1])


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_is_a_normal_density(draw, variant):
    (s,), (t,) = draw(3, 4, 2, 3, count=1), draw(3, 5, 2, 3, count=1, seed=5)
    loss = ready(s, t, variant=variant, epsilon=0.25)
    with torch.no_grad():
        loss.log_scale.copy_(torch.linspace(-2, 3, 5))
    first, second, third = loss.regressor[0], loss.regressor[2], loss.regressor[4]
    mean = torch.einsum("oc,bchw->bohw", third.weight[..., 0, 0], second(first(s).clamp_min(0)).clamp_min(0))
    variance = (1 + loss.log_scale.exp()).log() + 0.25
    density = -Normal(mean, variance.sqrt()[:, None, None]).log_prob(t) - math.log(2 * math.pi) / 2
    got = loss(Signals.of(s), Signals.of(t))
    torch.testing.assert_close(got, density.sum((1, 2, 3)) if variant == "paper" else density)


@pytest.mark.parametrize(("hidden", "width"), [(1.0, 5), (2.0, 10), (0.5, 2), (0.01, 1)])
def test_networks(hidden, width):
    s, t = torch.zeros(2, 4, 3, 3), torch.zeros(2, 5, 3, 3)
    loss = ready(s, t, hidden=hidden)
    assert [type(layer).__name__ for layer in loss.regressor] == ["Conv2d", "ReLU", "Conv2d", "ReLU", "Conv2d"]
    assert [tuple(p.shape[:2]) for p in loss.regressor.parameters()] == [(width, 4), (width, width), (5, width)]
    assert loss.log_scale.shape == (5,)
    assert all(p.requires_grad for p in loss.parameters())


@pytest.mark.parametrize("variance", [0.1001, 0.5, 5.0, 29.0, 31.0, 5000.0])
def test_initial_variance(variance):
    x = torch.zeros(2, 3, 2, 2)
    loss = ready(x, x, initial_variance=variance, epsilon=0.1)
    start = torch.nn.functional.softplus(loss.log_scale) + 0.1
    torch.testing.assert_close(start, torch.full((3,), variance), rtol=1e-6, atol=0)


def test_device_and_precision():
    s, t = torch.randn(2, 3, 2, 2), torch.randn(2, 4, 2, 2)
    assert all(p.device.type == "meta" for p in ready(s.to("meta"), t.to("meta")).parameters())
    assert {p.dtype for p in ready(s.bfloat16(), t.bfloat16()).parameters()} == {torch.float32}
    assert ready(s.double(), t)(Signals.of(s.double()), Signals.of(t)).dtype == torch.float64
    loss = ready(s, t)
    expected = loss(Signals.of(s), Signals.of(t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)


def test_defaults_and_mistakes():
    loss = VID()
    assert (loss.hidden, loss.initial_variance, loss.epsilon, loss.variant) == (1.0, 5.0, 1e-5, "paper")
    with pytest.raises(ValueError, match=r"^VID\.initial_variance must be > epsilon, which is 2\.0, got 2\.0$"):
        VID(initial_variance=2.0, epsilon=2.0)
    for field in ("hidden", "initial_variance", "epsilon"):
        with pytest.raises(ValueError, match=rf"^VID\.{field} must be > 0, got 0$"):
            VID(**{field: 0})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^VID\.variant must be one of 'paper', 'official', got 'mean'$"):
        VID(variant="mean")  # pyright: ignore[reportArgumentType]


def test_needs_and_exemptions():
    needs = VID().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "space",
        False,
    )
    assert VID.exempt == {"equality": "the prediction is learned, and the logarithm of a density has no smallest value"}


def test_golden():
    check_parity("vid")
