"""AKL: value by hand, what its head is, temperature, defaults."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.akl import AKL
from limbeck.losses.kd import KD
from limbeck.ops.divergence import adaptive_kl
from limbeck.types import Signals


def test_value_by_hand():
    """Teacher (1/2, 1/4, 1/4), student (1/4, 1/4, 1/2): half of the gap is at the head, half at the tail."""
    teacher, student = (torch.tensor([x]).log() for x in ([0.5, 0.25, 0.25], [0.25, 0.25, 0.5]))
    got = AKL()(Signals(student), Signals(teacher))
    assert got.item() == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2))


def test_a_head_or_a_tail_alone():
    """Both take what is in the middle for the head or not; all in one leaves one direction."""
    teacher, student = (torch.tensor([x]).log() for x in ([0.6, 0.3, 0.1], [0.2, 0.3, 0.5]))
    signals = Signals(student), Signals(teacher)
    forward = KD(temperature=1.0)(*signals)
    torch.testing.assert_close(AKL(head=1.0)(*signals), forward)
    # Of the teacher's 0.9 at the first two, 0.8 is reached in the middle: the tail alone, or with the second class.
    assert AKL(head=0.8, variant="dskd")(*signals).item() == pytest.approx(AKL(head=0.8)(*signals).item())
    middle = Signals(torch.tensor([[0.2, 0.7, 0.1]]).log()), signals[1]
    torch.testing.assert_close(AKL(head=0.8, variant="dskd")(*middle), KD(temperature=1.0)(*middle))
    assert AKL(head=0.8)(*middle).item() != pytest.approx(KD(temperature=1.0)(*middle).item())


@pytest.mark.parametrize("variant", ["paper", "dskd"])
def test_the_temperature_and_its_factor(draw, variant):
    student, teacher = draw(4, 6)
    got = AKL(temperature=3.0, head=0.4, variant=variant)(Signals(student), Signals(teacher))
    torch.testing.assert_close(got, 9 * adaptive_kl(teacher / 3, student / 3, head=0.4, ascending=variant == "dskd"))


def test_half_precision_is_divided_in_float32():
    student, teacher = torch.tensor([[60000.0, 0.0]]).half(), torch.tensor([[0.0, 0.0]]).half()
    assert AKL(temperature=0.5)(Signals(student), Signals(teacher)).item() == pytest.approx(
        0.25 * (0.5 * (0.5 * 119968.0 - math.log(2)) + 0.5 * math.log(2)), rel=1e-3
    )


def test_tokens_give_one_value_each(draw):
    student, teacher = draw(2, 3, 5)
    assert AKL()(Signals(student), Signals(teacher)).shape == (2, 3)


def test_defaults_and_bounds():
    assert (AKL().temperature, AKL().head, AKL().variant) == (1.0, 0.5, "paper")
    with pytest.raises(ValueError, match=r"^AKL\.temperature must be > 0, got 0$"):
        AKL(temperature=0)
    with pytest.raises(ValueError, match=r"^AKL\.head must be <= 1, got 1.1$"):
        AKL(head=1.1)


def test_needs():
    needs = AKL().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("class",))


def test_golden():
    check_parity("dskd_akl")
