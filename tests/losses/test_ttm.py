"""TTM: value by hand, an oracle by loops, the paper's identity with KD, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.kd import softened_kl
from limbeck.losses.ttm import TTM, explicit_transformed_kl, transformed_kl
from limbeck.types import Signals


@pytest.mark.parametrize("how", [transformed_kl, explicit_transformed_kl])
def test_by_hand(how):
    """Teacher (9/10, 1/10) to the power 1/2 is (3/4, 1/4); the student is even."""
    teacher, student = torch.tensor([[math.log(9), 0.0]]), torch.zeros(1, 2)
    value, mass = how(student, teacher, gamma=0.5)
    assert value.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-5)
    assert mass.item() == pytest.approx(math.sqrt(0.9) + math.sqrt(0.1), rel=1e-6)


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("gamma", [0.25, 1.0, 2.0])
def test_oracle(draw, gamma, variant):
    student, teacher = draw(3, 5)
    got = TTM(gamma=gamma, variant=variant)(Signals(student), Signals(teacher))
    for i in range(3):
        p, q = ([math.exp(z) for z in x[i].tolist()] for x in (teacher, student))
        p = [(x / sum(p)) ** gamma for x in p]
        expected = sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


def test_it_is_kd_and_a_renyi_entropy(draw):
    """The identity of section 3: up to entropies of the teacher it is KD less the Renyi entropy of the student, over gamma."""
    student, teacher = draw(4, 6)
    gamma = 0.25
    got, _ = transformed_kl(student, teacher, gamma=gamma)
    p = (gamma * teacher).softmax(-1)
    cross = -(p * (gamma * student).log_softmax(-1)).sum(-1) + (p * p.log()).sum(-1)
    torch.testing.assert_close(cross, softened_kl(student, teacher, temperature=1 / gamma))
    renyi = (student.softmax(-1) ** gamma).sum(-1).log() / (1 - gamma)
    entropy = -(p * p.log()).sum(-1)
    torch.testing.assert_close(got, (cross + entropy - (1 - gamma) * renyi) / gamma - entropy)


def test_the_student_has_no_temperature(draw):
    """Zero where its own probabilities are the teacher's at temperature 1 / gamma."""
    (teacher,) = draw(3, 5, count=1)
    got = TTM(gamma=0.25)(Signals(0.25 * teacher), Signals(teacher))
    torch.testing.assert_close(got, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_variants_part_where_a_probability_underflows():
    student, teacher = torch.zeros(1, 2), torch.tensor([[200.0, 0.0]])
    p = 1 / (1 + math.exp(-2))
    paper, official = (TTM(gamma=0.01, variant=v)(Signals(student), Signals(teacher)) for v in ("paper", "official"))
    assert paper.item() == pytest.approx(p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)), rel=1e-5)
    assert official.item() == pytest.approx(math.log(2), rel=1e-6)


def test_a_hundred_thousand_classes():
    student, teacher = torch.randn(2, 2, 100_000, generator=torch.Generator().manual_seed(0))
    for how in (transformed_kl, explicit_transformed_kl):
        value, mass = how(student, teacher, gamma=0.1)
        exact, weight = how(student.double(), teacher.double(), gamma=0.1)
        torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=0)
        torch.testing.assert_close(mass.double(), weight, rtol=1e-4, atol=0)


@pytest.mark.parametrize("how", [transformed_kl, explicit_transformed_kl])
def test_half_precision_is_widened(draw, how):
    student, teacher = (x.bfloat16() for x in draw(3, 5))
    for got, expected in zip(how(student, teacher, gamma=0.3), how(student.float(), teacher.float(), gamma=0.3), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_tokens_give_one_value_each(draw, variant):
    student, teacher = draw(2, 3, 5)
    got = TTM(variant=variant)(Signals(student), Signals(teacher))
    torch.testing.assert_close(got[1], TTM(variant=variant)(Signals(student[1]), Signals(teacher[1])))
    for how in (transformed_kl, explicit_transformed_kl):
        _, mass = how(student, teacher, gamma=0.5)
        torch.testing.assert_close(mass, teacher.softmax(-1).sqrt().sum(-1))


def test_defaults_and_bounds():
    assert (TTM().gamma, TTM().variant) == (0.1, "paper")
    with pytest.raises(ValueError, match=r"^TTM\.gamma must be > 0, got 0$"):
        TTM(gamma=0)


def test_needs():
    needs = TTM().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("class",))


def test_golden():
    check_parity("ttm")
