"""Divergences from the likeliest classes: the logarithm of what is left, temperatures, and what is made of the other classes."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from limbeck.ops.divergence import kl, log_softmax
from limbeck.ops.topk import Rest, log1mexp, log_rest, parted, tempered, topk_divergence

KINDS = ("forward", "reverse", "symmetric", "js", "tv", "skew_forward", "skew_reverse")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def known(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    log_p, index = log_softmax(logits).topk(k)
    return log_p, index


@pytest.mark.parametrize("x", [-1e-7, -1e-3, -0.6, -0.7, -1.5, -30.0])
def test_log1mexp(x):
    """Against float64, where float32 by either of the two formulas alone would be off."""
    got = log1mexp(torch.tensor(x))
    assert got.item() == pytest.approx(math.log(-math.expm1(torch.tensor(x).item())), rel=1e-6)
    assert log1mexp(torch.tensor(-30.0)).item() == pytest.approx(-math.exp(-30), rel=1e-6)


def test_log1mexp_has_its_gradient():
    x = torch.tensor([-1e-3, -0.5, -0.7, -5.0, -100.0, 0.0, 1e-7], dtype=torch.float64, requires_grad=True)
    value = log1mexp(x)
    assert value[5:].tolist() == [-math.inf, -math.inf]
    (found,) = torch.autograd.grad(value[:5].sum() + value[5:].exp().sum(), x)
    expected = [-math.exp(v) / -math.expm1(v) for v in x[:5].tolist()]
    assert found[:5].tolist() == pytest.approx(expected, rel=1e-9)
    assert found[5:].tolist() == [0, 0]


def test_log_rest_by_hand():
    assert log_rest(torch.tensor([[0.5, 0.2], [0.5, 0.5]]).log()).tolist() == pytest.approx([math.log(0.3), -math.inf])


def test_what_is_left_by_rounding_is_nothing():
    log_p = log_softmax(draw(40, 30).float())
    assert log_rest(log_p).tolist() == [-math.inf] * 40
    assert log_rest(torch.tensor([math.log1p(-2e-6)])).item() == pytest.approx(math.log(2e-6), rel=0.1)


def test_up_to_which_rounding():
    for dtype in (torch.float32, torch.float64):
        eps = torch.finfo(dtype).eps
        got = log_rest(torch.tensor([[-4 * eps], [-3.5 * eps]], dtype=dtype))
        assert got.tolist() == pytest.approx([math.log(4 * eps), -math.inf])


def test_tempered_by_hand():
    """Of (0.5, 0.2) and 0.3 left over, squared: (0.25, 0.04) and 0.09."""
    log_p = torch.tensor([0.5, 0.2]).log()
    assert tempered(log_p, power=2.0, tail=True).exp().tolist() == pytest.approx([0.25 / 0.38, 0.04 / 0.38])
    assert tempered(log_p, power=2.0, tail=False).exp().tolist() == pytest.approx([0.25 / 0.29, 0.04 / 0.29])
    torch.testing.assert_close(tempered(log_p, power=1.0, tail=True), log_p)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rest", get_args(Rest))
def test_all_classes_known(kind, rest):
    """Then nothing is left to be made anything of."""
    t, s = draw(3, 5), draw(3, 5, seed=1).requires_grad_()
    log_p, index = known(t, 5)
    expected = topk_divergence(log_softmax(t), torch.arange(5).expand(3, 5), s, rest="partial", kind=kind, weight=0.3)
    got = topk_divergence(log_p, index, s, rest=rest, kind=kind, weight=0.3)
    torch.testing.assert_close(got, expected, atol=1e-7, rtol=1e-5)
    (found,) = torch.autograd.grad(got.sum(), s)
    assert found.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_all_classes_known_inexactly(kind):
    """In half precision the teacher's probabilities do not sum to 1, and the student has nothing to set against what is missing."""
    t, s = draw(2, 3, 5), draw(2, 3, 5, seed=1)
    log_p, index = known(t, 5)
    expected, got = (topk_divergence(log_p - 0.01, index, s, rest=rest, kind=kind, weight=0.3) for rest in ("partial", "tail"))
    assert got.isfinite().all()
    assert torch.equal(got, expected)


@pytest.mark.parametrize(("tokens", "top", "classes"), [(3, 3, 5), (5, 3, 5), (3, 2, 2)])
@pytest.mark.parametrize("rest", get_args(Rest))
def test_tokens_of_a_batch_are_rows(rest, tokens, top, classes):
    """Also where there are as many tokens as classes, or as classes that are known."""
    t, s = draw(2, tokens, classes), draw(2, tokens, classes, seed=1)
    log_p, index = known(t, top)
    got = topk_divergence(log_p, index, s, rest=rest, kind="forward", weight=0)
    rows = topk_divergence(log_p.flatten(0, 1), index.flatten(0, 1), s.flatten(0, 1), rest=rest, kind="forward", weight=0)
    torch.testing.assert_close(got.flatten(), rows)


@pytest.mark.parametrize("rest", get_args(Rest))
def test_a_student_in_half_precision(rest):
    t, s = draw(3, 5).float(), draw(3, 5, seed=1).bfloat16()
    got = topk_divergence(*known(t, 2), s, rest=rest, kind="forward", weight=0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, topk_divergence(*known(t, 2), s.float(), rest=rest, kind="forward", weight=0))


def test_one_class_known():
    log_p, index = torch.tensor([[0.6]]).log(), torch.tensor([[1]])
    student = torch.tensor([[0.5, 0.3, 0.2]]).log()
    expected = {"zero": 0.6 * math.log(2), "partial": 0.6 * math.log(2), "tail": 0.6 * math.log(2) + 0.4 * math.log(0.4 / 0.7)}
    expected |= {"teacher": -math.log(0.3), "renormalised": 0.0}
    for rest in get_args(Rest):
        assert topk_divergence(log_p, index, student, rest=rest, kind="forward", weight=0).item() == pytest.approx(expected[rest], rel=1e-5)


def test_forward_by_hand():
    """Teacher (0.5, 0.2) of classes 1 and 0; the student has (0.1, 0.3) of them and 0.6 of others."""
    log_p, index = torch.tensor([[0.5, 0.2]]).log(), torch.tensor([[1, 0]])
    student = torch.tensor([[0.1, 0.3, 0.4, 0.2]]).log()
    known_part = 0.5 * math.log(0.5 / 0.3) + 0.2 * math.log(0.2 / 0.1)
    expected = {
        "partial": known_part,
        "zero": known_part,
        "tail": known_part + 0.3 * math.log(0.3 / 0.6),
        "teacher": known_part / 0.7 - math.log(0.7),
        "renormalised": known_part / 0.7 - math.log(0.7) + math.log(0.4),  # the student has 0.4 of them
    }
    for rest in get_args(Rest):
        assert topk_divergence(log_p, index, student, rest=rest, kind="forward", weight=0).item() == pytest.approx(expected[rest], rel=1e-4)


def test_total_variation_by_hand():
    log_p, index = torch.tensor([[0.5, 0.2]]).log(), torch.tensor([[1, 0]])
    student = torch.tensor([[0.1, 0.3, 0.4, 0.2]]).log()
    expected = {
        "partial": (0.2 + 0.1) / 2,
        "zero": (0.2 + 0.1 + 0.6) / 2,
        "tail": (0.2 + 0.1 + 0.3) / 2,
        "teacher": (5 / 7 - 0.3 + 2 / 7 - 0.1 + 0.6) / 2,
        "renormalised": 3 / 4 - 5 / 7,
    }
    for rest in get_args(Rest):
        value = topk_divergence(log_p, index, student, rest=rest, kind="tv", weight=0).item()
        assert value == pytest.approx(abs(expected[rest]), rel=1e-5)


def test_the_tail_is_a_lower_bound():
    t, s = draw(50, 9), draw(50, 9, seed=1)
    values = [topk_divergence(*known(t, k), s, rest="tail", kind="forward", weight=0) for k in (1, 3, 6, 9)]
    for smaller, larger in zip(values, [*values[1:], kl(t, s)], strict=True):
        assert (smaller <= larger + 1e-7).all()
    assert (values[0] >= 0).all()
    same = topk_divergence(*known(t, 3), t, rest="tail", kind="forward", weight=0)
    torch.testing.assert_close(same, torch.zeros_like(same), atol=1e-12, rtol=0)


@pytest.mark.parametrize("rest", ["tail", "teacher", "zero"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_at_magnitude_1e4(kind, rest):
    t, s = (1e4 * draw(4, 6, seed=seed).float() for seed in (0, 1))
    s.requires_grad_()
    value = topk_divergence(*known(t, 2), s, rest=rest, kind=kind, weight=0.1)
    assert not value.isnan().any()
    if kind in ("forward", "js", "tv", "skew_forward", "skew_reverse"):
        (found,) = torch.autograd.grad(value.sum(), s)
        assert found.isfinite().all()


@pytest.mark.parametrize("rest", ["tail", "teacher"])
def test_the_forward_divergence_has_its_derivatives(rest):
    log_p, index = known(draw(3, 6), 2)
    z = draw(3, 6, seed=1).requires_grad_()

    def value(z: torch.Tensor) -> torch.Tensor:
        return topk_divergence(log_p, index, z, rest=rest, kind="forward", weight=0.1)

    assert torch.autograd.gradcheck(value, z)
    assert torch.autograd.gradgradcheck(value, z)


def test_parted_by_hand_and_its_gradient():
    z = draw(3, 6).requires_grad_()
    index = torch.tensor([[0, 4], [5, 1], [2, 3]])
    known, left = parted(z, index)
    p = z.softmax(-1)
    others = torch.ones_like(p).scatter(-1, index, 0)
    torch.testing.assert_close(known, p.gather(-1, index).log())
    torch.testing.assert_close(left, (p * others).sum(-1).log())
    weights = draw(3, 2, seed=1), draw(3, seed=2)
    (found,) = torch.autograd.grad((known * weights[0]).sum() + (left * weights[1]).sum(), z)
    (expected,) = torch.autograd.grad((p.gather(-1, index).log() * weights[0]).sum() + ((p * others).sum(-1).log() * weights[1]).sum(), z)
    torch.testing.assert_close(found, expected)


def test_parted_is_exact_where_what_is_left_is_tiny_or_nothing():
    z = torch.tensor([[0.0, -1e4, -1e4], [0.0, -200.0, -300.0]], requires_grad=True)
    known, left = parted(z, torch.tensor([[0], [0]]))
    assert known.tolist() == [[0.0], [0.0]]
    assert left.tolist() == pytest.approx([-1e4 + math.log(2), -200.0])
    (found,) = torch.autograd.grad(left.sum(), z)
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.5, 0.5], [-1.0, 1.0, 0.0]]))
    y = draw(2, 2).requires_grad_()
    known, left = parted(y, torch.tensor([[0, 1], [1, 0]]))
    assert left.tolist() == [-math.inf] * 2
    (found,) = torch.autograd.grad(known[:, 0].sum(), y)
    torch.testing.assert_close(found.sum(-1), torch.zeros(2, dtype=torch.float64))
