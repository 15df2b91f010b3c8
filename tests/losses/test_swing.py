"""Swing distillation: values by hand, limits, noise."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.losses.kd import KD
from limbeck.losses.swing import Swing, swing_divergence
from limbeck.types import Needs, Signals


def logits(*probabilities: list[float]) -> torch.Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


def test_by_hand():
    teacher, student = logits([0.8, 0.2], [0.8, 0.2]), logits([0.5, 0.5], [0.5, 0.5])
    found = swing_divergence(student, teacher, torch.tensor([0.0, 1.0]), temperature=1.0, rise=1.0)
    soft = 2 / 3  # at temperature 2 the ratio of 4 becomes 2
    first = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    second = soft * math.log(2 * soft) + (1 - soft) * math.log(2 * (1 - soft))
    assert found.tolist() == pytest.approx([first, second])
    half = swing_divergence(student, teacher, torch.tensor([0.0, 0.5]), temperature=1.0, rise=2.0)
    assert half.tolist() == pytest.approx([first, second])
    factor = swing_divergence(2 * student, 2 * teacher, torch.tensor([0.0, 1.0]), temperature=2.0, rise=1.0)
    assert factor.tolist() == pytest.approx([4 * first, 4 * second])


def test_noise_is_added_clipped_and_normalised_where_a_token_is_private():
    teacher, student = logits([0.7, 0.2, 0.1]).repeat(3, 1), logits([0.2, 0.3, 0.5]).repeat(3, 1)
    noise = torch.tensor([[0.1, -0.3, 0.2]], dtype=torch.float64).repeat(3, 1)
    found = swing_divergence(student, teacher, torch.tensor([0.0, 1.0, 0.5]), noise, temperature=1.0, rise=0.0)
    plain = 0.7 * math.log(3.5) + 0.2 * math.log(2 / 3) + 0.1 * math.log(0.2)
    whole = 0.8 / 1.1 * math.log(0.8 / 1.1 / 0.2) + 0.3 / 1.1 * math.log(0.3 / 1.1 / 0.5)
    part = [0.75, 0.05, 0.2]
    half = sum(p * math.log(p / q) for p, q in zip(part, (0.2, 0.3, 0.5), strict=True))
    assert found.tolist() == pytest.approx([plain, whole, half])
    less = swing_divergence(student[:1], teacher[:1], torch.ones(1), torch.tensor([[-0.5, -0.1, 0.0]]).double(), temperature=1.0, rise=0.0)
    rest = sum(p * math.log(p / q) for p, q in zip((0.5, 0.25, 0.25), (0.2, 0.3, 0.5), strict=True))
    assert less.item() == pytest.approx(rest)
    gone = swing_divergence(student, teacher, torch.ones(3), noise - 5, temperature=1.0, rise=0.0)
    assert torch.isfinite(gone).all()


def test_without_private_tokens_it_is_kd():
    torch.manual_seed(0)
    student, teacher = Signals(torch.randn(5, 7), extra={"private": torch.zeros(5)}), Signals(torch.randn(5, 7))
    loss = Swing(temperature=3.0, rise=4.0, noise=0.5)
    torch.testing.assert_close(loss(student, teacher), KD(temperature=3.0)(student, teacher))


@pytest.mark.parametrize(("kind", "deviation"), [("laplace", math.sqrt(2)), ("gaussian", 1.0)])
def test_noise_is_drawn_anew_at_its_scale(kind: str, deviation: float):
    torch.manual_seed(0)
    loss = Swing(noise=0.3, kind=kind)  # pyright: ignore[reportArgumentType]
    drawn = loss._drawn(torch.zeros(200, 500))
    assert drawn.std().item() == pytest.approx(0.3 * deviation, rel=0.02)
    assert abs(drawn.mean().item()) < 0.01
    assert drawn.abs().mean().item() == pytest.approx(0.3 if kind == "laplace" else 0.3 * math.sqrt(2 / math.pi), rel=0.02)
    signals = Signals(torch.randn(4, 5), extra={"private": torch.ones(4)}), Signals(torch.randn(4, 5))
    assert not torch.equal(loss(*signals), loss(*signals))


def test_half_precision_is_counted_in_single():
    torch.manual_seed(0)
    private = {"private": torch.tensor([0.3, 1.0, 0.0]).bfloat16()}
    ours, theirs = torch.randn(3, 50).bfloat16(), torch.randn(3, 50).bfloat16()
    values = []
    for student, teacher in ((ours, theirs), (ours.float(), theirs.float())):
        torch.manual_seed(1)
        values.append(Swing(temperature=3.0, noise=0.1)(Signals(student, extra=private), Signals(teacher)))
    torch.testing.assert_close(*values, rtol=1e-6, atol=1e-7)


def test_without_noise_nothing_is_drawn():
    before = torch.random.get_rng_state()
    Swing()(Signals(torch.ones(2, 3), extra={"private": torch.ones(2)}), Signals(torch.ones(2, 3)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_defaults():
    loss = Swing()
    assert loss.needs == Needs(logits=True, label_kinds=("class",), extra=("private",))
    for wrong in ({"temperature": 0.0}, {"rise": -0.1}, {"noise": -0.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Swing(**wrong)
    assert (loss.temperature, loss.rise, loss.noise, loss.kind) == (1.0, 1.0, 0.0, "laplace")
    assert loss.needs.extra == ("private",)
    several = Signals(torch.randn(2, 3), extra={"private": torch.tensor([[1.0, 0.0], [0.0, 0.0]])})
    one = Signals(several.logits, extra={"private": torch.tensor([0.5, 0.0])})
    teacher = Signals(torch.randn(2, 3))
    assert torch.equal(loss(several, teacher), loss(one, teacher))
