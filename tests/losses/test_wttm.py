"""WTTM: value by hand, an oracle by loops, limits of the weight, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.ttm import TTM
from limbeck.losses.wttm import WTTM
from limbeck.types import Signals


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_by_hand(variant):
    """Teacher (9/10, 1/10) to the power 1/2 has the mass 1.2649 and is (3/4, 1/4); the student is even."""
    teacher, student = torch.tensor([[math.log(9), 0.0]]), torch.zeros(1, 2)
    got = WTTM(gamma=0.5, variant=variant)(Signals(student), Signals(teacher))
    expected = (math.sqrt(0.9) + math.sqrt(0.1)) * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert got.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_oracle(draw, variant):
    student, teacher = draw(3, 5)
    got = WTTM(gamma=0.3, variant=variant)(Signals(student), Signals(teacher))
    for i in range(3):
        p, q = ([math.exp(z) for z in x[i].tolist()] for x in (teacher, student))
        p = [(x / sum(p)) ** 0.3 for x in p]
        expected = sum(a * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


def test_limits_of_the_weight(draw):
    """1 for a teacher that is sure, classes ** (1 - gamma) for one that is not at all."""
    (student,) = draw(1, 4, count=1)
    for teacher, weight in ((torch.tensor([[1e4, 0.0, 0.0, 0.0]]), 1.0), (torch.zeros(1, 4), 4**0.75)):
        signals = Signals(student), Signals(teacher.double())
        torch.testing.assert_close(WTTM(gamma=0.25)(*signals), weight * TTM(gamma=0.25)(*signals))


def test_a_power_of_one_is_unweighted(draw):
    student, teacher = draw(3, 5)
    signals = Signals(student), Signals(teacher)
    torch.testing.assert_close(WTTM(gamma=1.0)(*signals), TTM(gamma=1.0)(*signals))


def test_variants_part_where_a_probability_underflows():
    student, teacher = torch.zeros(1, 2), torch.tensor([[200.0, 0.0]])
    paper, official = (WTTM(gamma=0.01, variant=v)(Signals(student), Signals(teacher)) for v in ("paper", "official"))
    assert official.item() == pytest.approx(math.log(2), rel=1e-6)
    assert paper.item() == pytest.approx((1 + math.exp(-2)) * TTM(gamma=0.01)(Signals(student), Signals(teacher)).item(), rel=1e-5)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_tokens_give_one_value_each(draw, variant):
    student, teacher = draw(2, 3, 5)
    got = WTTM(variant=variant)(Signals(student), Signals(teacher))
    torch.testing.assert_close(got[1], WTTM(variant=variant)(Signals(student[1]), Signals(teacher[1])))


def test_defaults_and_bounds():
    assert (WTTM().gamma, WTTM().variant) == (0.1, "paper")
    with pytest.raises(ValueError, match=r"^WTTM\.gamma must be > 0, got 0$"):
        WTTM(gamma=0)


def test_needs():
    needs = WTTM().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("class",))


def test_golden():
    check_parity("wttm")
