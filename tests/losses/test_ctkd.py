"""Curriculum temperature: value by hand, the reversed gradient, limiting cases, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.ctkd import CTKD, tempered_kl
from limbeck.losses.kd import KD
from limbeck.types import Signals


def ready(loss, theta=1.0):
    example = Signals(torch.zeros(2, 3))
    loss.setup(example, example)
    loss.theta.data.fill_(theta)
    return loss.double()


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_by_hand(variant):
    """At theta 0 the temperature is 1 + 2/2 = 2: 3/4 and 1/4 against 1/2 and 1/2, times 4."""
    loss = ready(CTKD(temperature=1.0, temperature_range=2.0, variant=variant), theta=0.0)
    got = loss(Signals(torch.zeros(1, 2).double()), Signals(torch.tensor([[2 * math.log(3), 0.0]]).double()))
    assert loss.current().tolist() == [2.0]
    assert got.tolist() == pytest.approx([4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))])


def test_is_hintons_loss_at_its_temperature(draw):
    student, teacher = (Signals(x) for x in draw(4, 6))
    loss = ready(CTKD())
    temperature = 1 + 20 / (1 + math.exp(-1))
    assert loss.current().item() == pytest.approx(temperature, rel=1e-9)
    torch.testing.assert_close(loss(student, teacher), KD(temperature=temperature)(student, teacher))
    fixed = ready(CTKD(temperature=3.0, temperature_range=0.0))
    torch.testing.assert_close(fixed(student, teacher), KD(temperature=3.0)(student, teacher))


@pytest.mark.parametrize("reversal", [0.0, 0.3, 1.0, -2.0])
def test_the_temperature_climbs(draw, reversal):
    """What reaches theta is -lambda times the slope of the loss, T^2 included, by central differences."""
    student, teacher = (Signals(x) for x in draw(4, 6))
    loss = ready(CTKD(reversal=reversal), theta=0.4)
    loss(student, teacher).sum().backward()

    def value(theta):
        temperature = 1 + 20 / (1 + math.exp(-theta))
        return KD(temperature=temperature)(student, teacher).sum().item()

    up, down = (value(0.4 + d) for d in (1e-3, -1e-3))
    assert loss.theta.grad.item() == pytest.approx(-reversal * (up - down) / 2e-3, rel=1e-5, abs=1e-12)  # pyright: ignore[reportOptionalMemberAccess]


def test_the_student_descends(draw):
    student, teacher = draw(4, 6)
    student.requires_grad_()
    loss = ready(CTKD())
    loss(Signals(student), Signals(teacher)).sum().backward()
    (expected,) = torch.autograd.grad(KD(temperature=loss.current().item())(Signals(student), Signals(teacher)).sum(), student)
    torch.testing.assert_close(student.grad, expected)


def test_the_strength_can_be_scheduled(draw):
    student, teacher = (Signals(x) for x in draw(4, 6))
    loss = ready(CTKD(reversal=0.0))
    loss.reversal = 0.5
    loss(student, teacher).sum().backward()
    assert loss.theta.grad.abs().item() > 0  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("explicit", [False, True])
def test_tokens_and_both_ways_to_subtract(draw, explicit):
    student, teacher = draw(2, 3, 6)
    got = tempered_kl(student, teacher, torch.tensor([2.0]), explicit=explicit)
    torch.testing.assert_close(got, KD(temperature=2.0)(Signals(student), Signals(teacher)))


def test_the_formula_as_it_is_is_exactly_zero_at_equality():
    logits = 100 * torch.randn(5, 30, generator=torch.Generator().manual_seed(1))
    assert tempered_kl(logits, logits.clone(), torch.ones(1), explicit=False).tolist() == [0] * 5


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_the_slope_is_finite_where_probabilities_underflow(variant):
    loss = ready(CTKD(variant=variant)).float()
    student, teacher = (1e4 * torch.randn(4, 9, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    loss(Signals(student), Signals(teacher)).sum().backward()
    assert loss.theta.grad.isfinite().all()  # pyright: ignore[reportOptionalMemberAccess]
    assert loss.theta.grad.abs().item() > 0  # pyright: ignore[reportOptionalMemberAccess]


def test_starts_at_one_and_is_one_parameter():
    loss = CTKD()
    loss.setup(Signals(torch.zeros(2, 3)), Signals(torch.zeros(2, 3)))
    assert {name: p.tolist() for name, p in loss.named_parameters()} == {"theta": [1.0]}
    loss.setup(Signals(torch.zeros(2, 3, device="meta")), Signals(torch.zeros(2, 3, device="meta")))
    assert loss.theta.device.type == "meta"


def test_defaults_and_bounds():
    loss = CTKD()
    assert (loss.temperature, loss.temperature_range, loss.reversal) == (1.0, 20.0, 1.0)
    assert loss.variant == "paper"
    with pytest.raises(ValueError, match=r"^CTKD\.temperature must be > 0, got 0$"):
        CTKD(temperature=0)
    with pytest.raises(ValueError, match=r"^CTKD\.temperature_range must be >= 0, got -1$"):
        CTKD(temperature_range=-1)


def test_needs():
    needs = CTKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features) == (True, False, True, "none")
    assert (needs.label_kinds, needs.global_batch) == (("class",), False)


def test_golden():
    check_parity("ctkd")


def test_low_precision_is_divided_in_float32(draw):
    """Even where the temperature is in low precision, too."""
    student, teacher = (x.half() for x in draw(3, 5))
    temperature = torch.tensor([3.0]).half()
    for explicit in (False, True):
        got = tempered_kl(student, teacher, temperature, explicit=explicit)
        expected = tempered_kl(student.float(), teacher.float(), temperature.float(), explicit=explicit)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
        assert got.dtype == torch.float32


def test_variants_round_differently(draw):
    (logits,) = draw(64, 50, count=1)
    signals = Signals(4 * logits.float())
    values = [ready(CTKD(variant=variant))(signals, signals) for variant in ("paper", "official")]
    assert not values[0].any()
    assert values[1].any()
