"""DKD: value by hand, the paper's identity, an oracle by loops, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import SignalMissing
from limbeck.losses.dkd import DKD, decoupled_kl, explicit_decoupled_kl
from limbeck.losses.kd import softened_kl
from limbeck.types import IGNORE, Signals

LABELS = torch.tensor([0, 3, 5, 2])


def test_two_classes_by_hand():
    """The other classes are one: their term is zero, and the target term is the whole KL."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    target, others = decoupled_kl(student, teacher, torch.tensor([0]), temperature=1.0)
    assert target.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-6)
    assert others.item() == 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_recovers_hinton(draw, temperature):
    """Equation 5 of the paper: KD = TCKD + (1 - p_target) NCKD."""
    student, teacher = draw(4, 6)
    target, others = decoupled_kl(student, teacher, LABELS, temperature=temperature)
    p = (teacher / temperature).softmax(-1).gather(-1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(target + (1 - p) * others, softened_kl(student, teacher, temperature=temperature))


def test_oracle(draw):
    student, teacher = draw(4, 6)
    got = DKD(alpha=3.0, beta=5.0, temperature=2.0)(Signals(student), Signals(teacher), LABELS)
    for i, y in enumerate(LABELS.tolist()):
        p, q = ([math.exp(z / 2) for z in x[i].tolist()] for x in (teacher, student))
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        target = p[y] * math.log(p[y] / q[y]) + (1 - p[y]) * math.log((1 - p[y]) / (1 - q[y]))
        rest = [k for k in range(6) if k != y]
        others = sum(p[k] / (1 - p[y]) * math.log(p[k] / (1 - p[y]) / (q[k] / (1 - q[y]))) for k in rest)
        assert got[i].item() == pytest.approx(4 * (3 * target + 5 * others), rel=1e-9)


def test_other_classes_ignore_the_target_logit(draw):
    student, teacher = draw(4, 6)
    moved = student.scatter_add(-1, LABELS[:, None], torch.full((4, 1), 7.0, dtype=torch.float64))
    _, before = decoupled_kl(student, teacher, LABELS, temperature=1.0)
    _, after = decoupled_kl(moved, teacher, LABELS, temperature=1.0)
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_tokens(draw, variant):
    student, teacher = draw(2, 2, 6)
    loss = DKD(variant=variant)
    got = loss(Signals(student), Signals(teacher), LABELS.view(2, 2))
    flat = loss(Signals(student.flatten(0, 1)), Signals(teacher.flatten(0, 1)), LABELS)
    torch.testing.assert_close(got, flat.view(2, 2))


def test_unlabelled_is_zero(draw):
    student, teacher = draw(4, 6)
    labels = LABELS.clone()
    labels[1] = IGNORE
    got, full = (DKD()(Signals(student), Signals(teacher), y) for y in (labels, LABELS))
    assert got[1] == 0
    torch.testing.assert_close(got[[0, 2, 3]], full[[0, 2, 3]])


def test_defaults_bounds_and_mistakes():
    assert (DKD().alpha, DKD().beta, DKD().temperature, DKD().variant) == (1.0, 8.0, 4.0, "paper")
    with pytest.raises(ValueError, match=r"^DKD\.temperature must be > 0, got -1$"):
        DKD(temperature=-1)
    for weight in ("alpha", "beta"):
        with pytest.raises(ValueError, match=rf"^DKD\.{weight} must be >= 0, got -0\.1$"):
            DKD(**{weight: -0.1})
    with pytest.raises(SignalMissing, match="this loss needs labels, and the batch has none"):
        DKD()(Signals(torch.zeros(1, 3)), Signals(torch.zeros(1, 3)))


def test_needs():
    needs = DKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, True, True, "none", ("class",))


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_official_is_the_same_where_logits_are_moderate(draw, temperature):
    student, teacher = (3 * x for x in draw(4, 6))
    paper, official = (DKD(variant=v, temperature=temperature)(Signals(student), Signals(teacher), LABELS) for v in ("paper", "official"))
    torch.testing.assert_close(official, paper)


def test_official_subtracts_1000_from_the_label():
    """Where the label's logit leads by more than that, it stays in: the other classes hold nothing but rounding."""
    student, teacher = torch.tensor([[1003.0, 0.0, 1.0]]), torch.tensor([[1002.0, 0.0, 3.0]])
    _, got = explicit_decoupled_kl(student, teacher, torch.tensor([0]), temperature=1.0, floor=1e-30)
    p, q = (x.double().softmax(-1) for x in (torch.tensor([2.0, 0.0, 3.0]), torch.tensor([3.0, 0.0, 1.0])))
    assert got.item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)
    _, paper = decoupled_kl(student, teacher, torch.tensor([0]), temperature=1.0)
    p, q = (x.double().softmax(-1) for x in (torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0])))
    assert paper.item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)


def test_official_underflows():
    """The student gives its label the probability 0 in float32; the floor keeps the loss finite."""
    student, teacher, labels = torch.tensor([[-200.0, 0.0, 0.0]]), torch.zeros(1, 3), torch.tensor([0])
    infinite, _ = explicit_decoupled_kl(student, teacher, labels, temperature=1.0, floor=0)
    assert infinite.item() == math.inf
    got = DKD(variant="official", temperature=1.0, beta=0.0)(Signals(student), Signals(teacher), labels)
    by_hand = math.log(1 / 3) / 3 + 30 * math.log(10) / 3 + 2 / 3 * math.log(2 / 3)
    assert got.item() == pytest.approx(by_hand, rel=1e-5)
    exact = DKD(temperature=1.0, beta=0.0)(Signals(student), Signals(teacher), labels)
    assert exact.item() == pytest.approx(math.log(1 / 3) / 3 + (200 + math.log(2)) / 3 + 2 / 3 * math.log(2 / 3), rel=1e-5)


def test_official_skips_what_is_unlabelled(draw):
    student, teacher = draw(4, 6)
    labels = LABELS.clone()
    labels[1] = IGNORE
    got, full = (explicit_decoupled_kl(student, teacher, y, temperature=2.0, floor=1e-30) for y in (labels, LABELS))
    for part, whole in zip(got, full, strict=True):
        assert part[1] == 0
        assert torch.equal(part[[0, 2, 3]], whole[[0, 2, 3]])


def test_official_divides_half_precision_in_float32():
    student, teacher = torch.tensor([[60000.0, 0.0, 1.0]]).half(), torch.zeros(1, 3).half()
    target, others = explicit_decoupled_kl(student, teacher, torch.tensor([0]), temperature=0.5, floor=1e-30)
    assert target.dtype == others.dtype == torch.float32
    assert target.isfinite().all()


def test_golden():
    check_parity("dkd")
