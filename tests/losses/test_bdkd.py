"""Balanced divergences: value by hand, an oracle by loops, the limiting case, who is emphasised."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import SignalMissing
from limbeck.losses.bdkd import BDKD, both_divergences
from limbeck.ops.divergence import kl
from limbeck.types import Signals

SURE, UNSURE = torch.tensor([[2 * math.log(3), 0.0]]).double(), torch.zeros(1, 2).double()
FORWARD = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # of (3/4, 1/4) from (1/2, 1/2)
REVERSE = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)


@pytest.mark.parametrize(("confident", "delta_on_forward"), [("forward", False), ("reverse", True)])
def test_hesitant_student_by_hand(confident, delta_on_forward):
    """Student (1/2, 1/2), teacher (3/4, 1/4) at temperature 2."""
    got = BDKD(delta=3.0, temperature=2.0, confident=confident)(Signals(UNSURE), Signals(SURE))
    a, b = (3, 1) if delta_on_forward else (1, 3)
    assert got.tolist() == pytest.approx([4 * (a * FORWARD + b * REVERSE)])


@pytest.mark.parametrize(("confident", "delta_on_forward"), [("forward", True), ("reverse", False)])
def test_overconfident_student_by_hand(confident, delta_on_forward):
    got = BDKD(delta=3.0, temperature=2.0, confident=confident)(Signals(SURE), Signals(UNSURE))
    a, b = (3, 1) if delta_on_forward else (1, 3)
    assert got.tolist() == pytest.approx([4 * (a * REVERSE + b * FORWARD)])  # forward is from the teacher, who is unsure here


def test_oracle(draw):
    student, teacher = draw(8, 5)
    got = BDKD(delta=1.5, temperature=3.0)(Signals(student), Signals(teacher))
    seen = set()
    for i in range(8):
        q, p = ([math.exp(z / 3) for z in x[i].tolist()] for x in (student, teacher))
        q, p = [x / sum(q) for x in q], [x / sum(p) for x in p]
        forward, reverse = (sum(a * math.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in ((p, q), (q, p)))
        entropies = [-sum(a * math.log(a) for a in x) for x in (p, q)]
        confident = entropies[0] > entropies[1]
        seen.add(confident)
        a, b = (1.5, 1.0) if confident else (1.0, 1.5)
        assert got[i].item() == pytest.approx(9 * (a * forward + b * reverse), rel=1e-9)
    assert seen == {True, False}


def test_parts(draw):
    student, teacher = draw(4, 6)
    forward, reverse, gap = both_divergences(student, teacher, temperature=2.0)
    torch.testing.assert_close(forward, kl(teacher / 2, student / 2))
    torch.testing.assert_close(reverse, kl(student / 2, teacher / 2))
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    torch.testing.assert_close(gap, -(p * p.log()).sum(-1) + (q * q.log()).sum(-1))


def test_without_emphasis_it_is_symmetric(draw):
    student, teacher = (Signals(x) for x in draw(4, 6))
    torch.testing.assert_close(BDKD(delta=1.0)(student, teacher), BDKD(delta=1.0)(teacher, student))


def test_tokens(draw):
    student, teacher = draw(2, 3, 6)
    flat = BDKD()(Signals(student.flatten(0, 1)), Signals(teacher.flatten(0, 1)))
    torch.testing.assert_close(BDKD()(Signals(student), Signals(teacher)), flat.view(2, 3))


def test_defaults_and_bounds():
    loss = BDKD()
    assert (loss.delta, loss.temperature, loss.confident) == (2.0, 4.0, "forward")
    with pytest.raises(ValueError, match=r"^BDKD\.delta must be >= 1, got 0\.9$"):
        BDKD(delta=0.9)
    with pytest.raises(ValueError, match=r"^BDKD\.temperature must be > 0, got 0$"):
        BDKD(temperature=0)


def test_needs():
    needs = BDKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features) == (True, False, True, "none")
    assert (needs.label_kinds, needs.global_batch) == (("class",), False)


@pytest.mark.parametrize(("confident", "expected"), [("forward", 1 + 2 * 10), ("reverse", 2 * 1 + 10)])
def test_equal_entropies_do_not_make_the_student_confident(monkeypatch, confident, expected):
    parts = torch.tensor([1.0]), torch.tensor([10.0]), torch.tensor([0.0])
    monkeypatch.setattr("limbeck.losses.bdkd.both_divergences", lambda *_, temperature: parts)
    got = BDKD(delta=2.0, temperature=1.0, confident=confident)(Signals(UNSURE), Signals(SURE))
    assert got.tolist() == [expected]


def test_half_precision_is_divided_in_float32(draw):
    student, teacher = (x.half() for x in draw(3, 5))
    got = both_divergences(student, teacher, temperature=3.0)
    torch.testing.assert_close(got, both_divergences(student.float(), teacher.float(), temperature=3.0), rtol=0, atol=0)


def test_says_who_gave_no_logits():
    with pytest.raises(SignalMissing, match=r"^the teacher gave no logits"):
        BDKD()(Signals(torch.zeros(1, 2)), Signals())
