"""KD: value by hand, limits, an oracle by loops, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.kd import KD, Divergence, softened_divergence, softened_kl
from limbeck.ops.divergence import jensen_shannon, kl, skewed_kl, symmetric_kl, total_variation
from limbeck.types import Signals


def test_value_by_hand():
    """Teacher (3/4, 1/4) against student (1/2, 1/2)."""
    teacher, student = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    torch.testing.assert_close(softened_kl(student, teacher, temperature=1.0), torch.tensor([expected]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_oracle(draw, temperature):
    student, teacher = draw(3, 5)
    got = KD(temperature=temperature)(Signals(student), Signals(teacher))
    for i in range(3):
        p = [math.exp(z / temperature) for z in teacher[i].tolist()]
        q = [math.exp(z / temperature) for z in student[i].tolist()]
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        expected = temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


def test_direction_is_teacher_to_student(draw):
    student, teacher = draw(2, 4)
    assert not torch.allclose(KD()(Signals(student), Signals(teacher)), KD()(Signals(teacher), Signals(student)), rtol=1e-3)


def test_high_temperature_is_the_squared_error_of_centred_logits(draw):
    """Section 2.1 of the paper: the limit is half the mean of the squared differences over the classes."""
    student, teacher = draw(4, 6)
    gap = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    got = KD(temperature=1e4)(Signals(student), Signals(teacher))
    torch.testing.assert_close(got, gap.square().mean(-1) / 2, rtol=1e-3, atol=0)


def test_gradient_is_the_difference_of_probabilities(draw):
    student, teacher = draw(3, 5)
    student.requires_grad_()
    KD(temperature=2.0)(Signals(student), Signals(teacher)).sum().backward()
    torch.testing.assert_close(student.grad, 2.0 * ((student / 2).softmax(-1) - (teacher / 2).softmax(-1)).detach())


def test_tokens_give_one_value_each(draw):
    student, teacher = draw(2, 3, 5)
    got = KD()(Signals(student), Signals(teacher))
    assert got.shape == (2, 3)
    torch.testing.assert_close(got[1], KD()(Signals(student[1]), Signals(teacher[1])))


def test_half_precision_is_divided_in_float32(draw):
    """60000 / 0.5 overflows float16; the loss of two far-away sure models stays exact."""
    student, teacher = torch.tensor([[60000.0, 0.0]]).half(), torch.tensor([[0.0, 0.0]]).half()
    got = KD(temperature=0.5)(Signals(student), Signals(teacher))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.tensor([0.25 * (0.5 * 119968.0 - math.log(2))]), rtol=1e-3, atol=0)


def test_either_side_is_divided_in_float32():
    far, even = torch.tensor([[60000.0, 0.0]]).half(), torch.zeros(1, 2).half()
    got = KD(temperature=0.5)(Signals(even), Signals(far))
    torch.testing.assert_close(got, torch.tensor([0.25 * math.log(2)]))
    assert softened_kl(even, far, temperature=0.5).item() == pytest.approx(math.log(2))
    assert softened_kl(far, even, temperature=0.5).item() == pytest.approx(0.5 * 119968.0 - math.log(2), rel=1e-3)


def test_the_divergence_alone_has_no_factor(draw):
    student, teacher = draw(3, 5)
    torch.testing.assert_close(softened_kl(student, teacher, temperature=3.0), KD(temperature=3.0)(Signals(student), Signals(teacher)) / 9)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergences(draw, temperature):
    student, teacher = draw(3, 5)
    p, q = teacher / temperature, student / temperature
    expected: dict[Divergence, torch.Tensor] = {
        "forward": temperature**2 * kl(p, q),
        "reverse": temperature**2 * kl(q, p),
        "symmetric": temperature**2 * symmetric_kl(p, q),
        "js": temperature**2 * jensen_shannon(p, q, mixture=0.2),
        "tv": temperature * total_variation(p, q),
        "skew_forward": temperature**2 * skewed_kl(p, q, skew=0.3),
        "skew_reverse": temperature**2 * skewed_kl(q, p, skew=0.3),
    }
    for divergence, value in expected.items():
        got = KD(temperature=temperature, divergence=divergence, mixture=0.2, skew=0.3)(Signals(student), Signals(teacher))
        torch.testing.assert_close(got, value)


def test_jensen_shannon_by_hand():
    """Teacher (3/4, 1/4), student (1/4, 3/4), mixture 1/2: the middle is even."""
    teacher, student = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[0.0, math.log(3)]])
    got = KD(divergence="js", temperature=1.0)(Signals(student), Signals(teacher))
    assert got.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-6)
    tv = KD(divergence="tv", temperature=1.0)(Signals(student), Signals(teacher))
    assert tv.item() == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(("mixture", "limit"), [(1e-6, "forward"), (1 - 1e-6, "reverse")])
def test_limits_of_the_mixture(draw, mixture, limit: Divergence):
    student, teacher = draw(3, 5)
    js = softened_divergence(student, teacher, temperature=2.0, divergence="js", mixture=mixture, skew=0.1)
    expected = softened_divergence(student, teacher, temperature=2.0, divergence=limit, mixture=0.5, skew=0.1)
    torch.testing.assert_close(js / min(mixture, 1 - mixture), expected, rtol=1e-4, atol=0)


def test_the_factor_keeps_the_gradient_of_total_variation(draw):
    student, teacher = draw(1, 4)
    sizes = []
    for temperature in (1e3, 1e4):
        x = student.clone().requires_grad_()
        KD(divergence="tv", temperature=temperature)(Signals(x), Signals(teacher)).sum().backward()
        sizes.append(x.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-2)


def test_a_masked_vocabulary(draw):
    """Classes that both rule out count nothing, and get no gradient."""
    student, teacher = (x.float() for x in draw(3, 5))
    masked = [torch.cat([x, torch.full((3, 2), -math.inf)], -1).requires_grad_() for x in (student, teacher)]
    for divergence in ("forward", "reverse", "symmetric", "js", "tv", "skew_forward", "skew_reverse"):
        loss = KD(divergence=divergence)
        value = loss(Signals(masked[0]), Signals(masked[1].detach()))
        torch.testing.assert_close(value, loss(Signals(student), Signals(teacher)))
        (found,) = torch.autograd.grad(value.sum(), masked[0])
        assert found.isfinite().all()
        assert not found[:, 5:].any()


def test_defaults_and_bounds():
    assert (KD().temperature, KD().divergence, KD().mixture, KD().skew) == (4.0, "forward", 0.5, 0.1)
    assert KD(skew=0).skew == 0
    for skew, bound in ((-0.1, ">= 0"), (1, "< 1")):
        with pytest.raises(ValueError, match=rf"^KD\.skew must be {bound}, got {skew}$"):
            KD(skew=skew)
    for mixture, bound in ((0, "> 0"), (1, "< 1")):
        with pytest.raises(ValueError, match=rf"^KD\.mixture must be {bound}, got {mixture}$"):
            KD(mixture=mixture)
    with pytest.raises(ValueError, match=r"^KD\.temperature must be > 0, got 0$"):
        KD(temperature=0)


def test_user_mistakes():
    two, three = Signals(torch.zeros(4, 2)), Signals(torch.zeros(4, 3))
    with pytest.raises(ShapeMismatch, match=r"student \[4, 2\] and teacher \[4, 3\] must have the same shape"):
        KD()(two, three)
    with pytest.raises(SignalMissing, match=r"the teacher gave no logits; its signals hold \['layer1'\]"):
        KD()(two, Signals(features={"layer1": torch.zeros(4, 2)}))


def test_needs():
    needs = KD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("class",))


def test_golden():
    check_parity("kd", "kd_ce", "kd_oct")
