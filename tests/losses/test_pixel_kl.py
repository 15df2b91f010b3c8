"""Pixel-wise distillation: value by hand, an oracle by loops, both orders, layouts, extremes."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.losses.kd import KD
from limbeck.losses.pixel_kl import PixelKL, pixel_divergence
from limbeck.types import Signals


def test_value_by_hand():
    """At one of two positions the student says 3/4, 1/4 and the teacher 1/2, 1/2; at the other they agree."""
    student = torch.tensor([[[[math.log(3.0), 5.0]], [[0.0, 2.0]]]])
    teacher = torch.tensor([[[[0.0, 3.0]], [[0.0, 0.0]]]])
    got = PixelKL()(Signals(student), Signals(teacher))
    assert got.shape == (1, 1, 2)
    assert got.flatten().tolist() == pytest.approx([0.75 * math.log(1.5) + 0.25 * math.log(0.5), 0], abs=1e-6)
    official = PixelKL(variant="official")(Signals(student), Signals(teacher))
    assert official[0, 0, 0].item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_oracle(draw, temperature):
    s, t = draw(2, 3, 2, 4)
    got = pixel_divergence(s, t, temperature=temperature)
    for n in range(2):
        for i in range(2):
            for j in range(4):
                p, q = ([math.exp(v / temperature) for v in x[n, :, i, j].tolist()] for x in (s, t))
                total = sum(u / sum(p) * math.log(u / sum(p) / (v / sum(q))) for u, v in zip(p, q, strict=True))
                assert got[n, i, j].item() == pytest.approx(temperature**2 * total, rel=1e-9)


def test_layouts(draw):
    s, t = draw(2, 3, 2, 4)
    loss = PixelKL(temperature=2.0, variant="official")
    expected = loss(Signals(s), Signals(t))
    torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)
    torch.testing.assert_close(loss(*(Signals(x.flatten(2).mT) for x in (s, t))), expected.flatten(1))
    vectors = [Signals(x[:, :, 0, 0]) for x in (s, t)]
    torch.testing.assert_close(loss(*vectors), KD(temperature=2.0)(*vectors))


def test_extremes_are_finite():
    student, teacher = torch.tensor([[0.0, 1e4]], requires_grad=True), torch.tensor([[0.0, 0.0]])
    for variant, expected in (("paper", math.log(2)), ("official", 5e3 - math.log(2))):
        value = PixelKL(variant=variant)(Signals(student), Signals(teacher))
        assert value.item() == pytest.approx(expected, rel=1e-5)
        assert torch.autograd.grad(value.sum(), student)[0].isfinite().all()


def test_defaults_needs_and_mistakes():
    assert (PixelKL().temperature, PixelKL().variant) == (1.0, "paper")
    with pytest.raises(ValueError, match=r"^PixelKL\.temperature must be > 0, got 0$"):
        PixelKL(temperature=0)
    with pytest.raises(ValueError, match=r"^PixelKL\.variant must be one of 'paper', 'official', got 'zoo'$"):
        PixelKL(variant="zoo")
    needs = PixelKL().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        True,
        False,
        True,
        "optional",
        "full",
        False,
    )
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3, 4, 4\] and teacher \[2, 5, 4, 4\]"):
        PixelKL()(Signals.of(torch.zeros(2, 3, 4, 4)), Signals.of(torch.zeros(2, 5, 4, 4)))
