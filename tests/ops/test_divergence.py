"""Divergences."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.divergence import (
    adaptive_kl,
    bernoulli_kl,
    common_support,
    cross_entropy,
    divergence,
    jensen_shannon,
    kl,
    log_softmax,
    mixture_entropy,
    relative_entropy,
    skewed_kl,
    smoothed_entropy,
    symmetric_kl,
    total_variation,
)
from limbeck.ops.precision import widen


def test_kl_by_hand():
    p, q = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    torch.testing.assert_close(kl(p, q), torch.tensor([0.75 * math.log(1.5) + 0.25 * math.log(0.5)]))
    torch.testing.assert_close(kl(q, p), torch.tensor([0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)]))
    assert kl(p, p).item() == 0


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shares(logits: torch.Tensor) -> list[list[float]]:
    rows = [[math.exp(z) for z in row] for row in logits.tolist()]
    return [[x / sum(row) for x in row] for row in rows]


def naive_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_cross_entropy_by_loops():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    expected = [-sum(x * math.log(y) for x, y in zip(a, b, strict=True)) for a, b in zip(shares(p), shares(q), strict=True)]
    assert cross_entropy(p, q).tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(cross_entropy(p, q) - cross_entropy(p, p), kl(p, q))


def test_symmetric_kl_by_loops():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    expected = [(naive_kl(a, b) + naive_kl(b, a)) / 2 for a, b in zip(shares(p), shares(q), strict=True)]
    assert symmetric_kl(p, q).tolist() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(symmetric_kl(p, q), symmetric_kl(q, p))
    assert not symmetric_kl(p, p).any()


@pytest.mark.parametrize("mixture", [0.1, 0.5, 0.8])
def test_jensen_shannon_by_loops(mixture):
    p, q = draw(3, 5), draw(3, 5, seed=1)
    expected = []
    for a, b in zip(shares(p), shares(q), strict=True):
        m = [mixture * x + (1 - mixture) * y for x, y in zip(a, b, strict=True)]
        expected.append(mixture * naive_kl(a, m) + (1 - mixture) * naive_kl(b, m))
    assert jensen_shannon(p, q, mixture=mixture).tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(jensen_shannon(p, q, mixture=mixture), jensen_shannon(q, p, mixture=1 - mixture))
    torch.testing.assert_close(jensen_shannon(p, p, mixture=mixture), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_jensen_shannon_of_what_is_disjoint():
    """Its largest value, the entropy of the weights; the gradient is finite and leads nowhere."""
    p, q = torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]], requires_grad=True)
    value = jensen_shannon(p, q, mixture=0.25)
    assert value.item() == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    value.sum().backward()
    assert q.grad is not None
    assert q.grad.tolist() == [[0.0, 0.0]]


def test_total_variation_by_loops():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    expected = [sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 2 for a, b in zip(shares(p), shares(q), strict=True)]
    assert total_variation(p, q).tolist() == pytest.approx(expected, rel=1e-12)
    assert not total_variation(p, p).any()
    assert total_variation(torch.tensor([1e4, 0.0]), torch.tensor([0.0, 1e4])).item() == 1


def test_bernoulli_kl_by_loops():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    got = bernoulli_kl(p, q)
    for i in range(3):
        for j in range(5):
            a, b = (1 / (1 + math.exp(-x[i, j].item())) for x in (p, q))
            assert got[i, j].item() == pytest.approx(naive_kl([a, 1 - a], [b, 1 - b]), rel=1e-9)
    assert not bernoulli_kl(p, p).any()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_bernoulli_kl_does_not_cancel(sign):
    """Coins that fall on one side nearly always, whichever that is: as exact in float32 as in float64."""
    p, q = sign * torch.tensor([12.0, 12.0]), sign * torch.tensor([11.0, -3.0])
    torch.testing.assert_close(bernoulli_kl(p, q).double(), bernoulli_kl(p.double(), q.double()), rtol=1e-5, atol=0)


def test_bernoulli_kl_of_sure_coins():
    p, q = torch.tensor([1e4, -1e4, 1e4, 0.0]), torch.tensor([-1e4, 1e4, 1e4, 1e4], requires_grad=True)
    value = bernoulli_kl(p, q)
    assert value.tolist() == pytest.approx([1e4, 1e4, 0.0, 5e3 - math.log(2)])
    value.sum().backward()
    assert q.grad is not None
    assert q.grad.tolist() == [-1.0, 1.0, 0.0, 0.5]


@pytest.mark.parametrize(
    "function",
    [
        kl,
        cross_entropy,
        symmetric_kl,
        total_variation,
        bernoulli_kl,
        lambda p, q: jensen_shannon(p, q, mixture=0.3),
        lambda p, q: skewed_kl(p, q, skew=0.3),
        lambda p, q: adaptive_kl(p, q, head=0.5, ascending=False),
    ],
)
def test_half_precision_is_widened(function):
    p, q = draw(2, 4).bfloat16(), draw(2, 4, seed=1).bfloat16()
    got = function(p, q)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, function(p.float(), q.float()))


def test_log_softmax_is_wide():
    assert log_softmax(torch.zeros(2, 4).bfloat16()).dtype == torch.float32
    assert log_softmax(torch.zeros(2, 4).double()).dtype == torch.float64


def test_widen_keeps_what_is_wide():
    x = torch.zeros(2)
    assert widen(x) is x
    assert widen(x.half()).dtype == torch.float32
    assert widen(x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "function",
    [kl, symmetric_kl, total_variation, cross_entropy, lambda p, q: jensen_shannon(p, q, mixture=0.3)],
    ids=["kl", "symmetric_kl", "total_variation", "cross_entropy", "jensen_shannon"],
)
def test_classes_are_the_last_dimension(function):
    p, q = torch.randn(2, 2, 3, 4, dtype=torch.float64).unbind()
    got = function(p, q)
    assert got.shape == (2, 3)
    torch.testing.assert_close(got.flatten(), function(p.flatten(0, 1), q.flatten(0, 1)))


@pytest.mark.parametrize("skew", [0.0, 0.1, 0.7])
def test_skewed_kl_by_loops(skew):
    p, q = draw(3, 5), draw(3, 5, seed=1)
    mixtures = [[skew * x + (1 - skew) * y for x, y in zip(a, b, strict=True)] for a, b in zip(shares(p), shares(q), strict=True)]
    expected = [naive_kl(a, m) for a, m in zip(shares(p), mixtures, strict=True)]
    assert skewed_kl(p, q, skew=skew).tolist() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(skewed_kl(p, p, skew=skew), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_skewed_kl_is_bounded():
    p, q = torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]], requires_grad=True)
    value = skewed_kl(p, q, skew=0.1)
    assert value.item() == pytest.approx(-math.log(0.1))
    value.sum().backward()
    assert q.grad is not None
    assert q.grad.tolist() == [[0.0, 0.0]]


KINDS = ("forward", "reverse", "symmetric", "js", "tv", "skew_forward", "skew_reverse", "cross_entropy")


def test_divergence_by_name():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    expected = {
        "forward": kl(p, q),
        "reverse": kl(q, p),
        "symmetric": symmetric_kl(p, q),
        "js": jensen_shannon(p, q, mixture=0.2),
        "tv": total_variation(p, q),
        "skew_forward": skewed_kl(p, q, skew=0.2),
        "skew_reverse": skewed_kl(q, p, skew=0.2),
        "cross_entropy": cross_entropy(p, q),
    }
    assert tuple(expected) == KINDS
    for kind in KINDS:
        torch.testing.assert_close(divergence(log_softmax(p), log_softmax(q), kind=kind, weight=0.2), expected[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_classes_that_both_rule_out_count_nothing(kind, dtype):
    p, q = draw(3, 5).to(dtype), draw(3, 5, seed=1).to(dtype)
    wide = [torch.cat([x[:, :2], torch.full((3, 2), -math.inf), x[:, 2:]], -1).requires_grad_() for x in (p, q)]
    narrow = [p.requires_grad_(), q.requires_grad_()]
    values = [divergence(log_softmax(a), log_softmax(b), kind=kind, weight=0.3) for a, b in (wide, narrow)]
    torch.testing.assert_close(*values)
    for found, expected in zip(torch.autograd.grad(values[0].sum(), wide), torch.autograd.grad(values[1].sum(), narrow), strict=True):
        assert not found[:, 2:4].any()
        torch.testing.assert_close(found[:, [0, 1, 4, 5, 6]], expected)


def test_a_class_that_one_rules_out():
    """p without the first class: nothing of it counts in KL(p | q). The other way round it is infinite, the bounded ones are not."""
    p = torch.tensor([[-math.inf, 0.0, math.log(3)]])
    q = torch.zeros(1, 3, requires_grad=True)
    assert kl(p, q).item() == pytest.approx(math.log(3) - (0.25 * math.log(4) + 0.75 * math.log(4 / 3)))
    assert cross_entropy(p, q).item() == pytest.approx(math.log(3))
    (found,) = torch.autograd.grad(kl(p, q).sum(), q)
    torch.testing.assert_close(found, torch.tensor([[1 / 3, 1 / 3 - 1 / 4, 1 / 3 - 3 / 4]]))
    assert kl(q, p).item() == math.inf
    assert total_variation(q, p).item() == pytest.approx((1 / 3 + 1 / 12 + 5 / 12) / 2)
    for value in (skewed_kl(q, p, skew=0.1), skewed_kl(p, q, skew=0.1), jensen_shannon(p, q, mixture=0.5)):
        (found,) = torch.autograd.grad(value.sum(), q)
        assert found.isfinite().all()
    assert jensen_shannon(p, q, mixture=0.5).item() == pytest.approx(jensen_shannon(q, p, mixture=0.5).item())


def test_a_common_support():
    log_p, log_q = (torch.tensor(x) for x in ([-math.inf, -1.0, -2.0, -3.0], [-1.0, -math.inf, -2.0, -4.0]))
    both = torch.tensor([-math.inf, -math.inf, -2.0, -3.0]), torch.tensor([-math.inf, -math.inf, -2.0, -4.0])
    torch.testing.assert_close(common_support(log_p, log_q), both)
    assert relative_entropy(*both).item() == pytest.approx(math.exp(-3))


def test_parts_of_distributions_are_not_renormalised():
    log_p, log_q = torch.tensor([0.5, 0.2]).log(), torch.tensor([0.25, 0.6]).log()
    assert relative_entropy(log_p, log_q).item() == pytest.approx(0.5 * math.log(2) - 0.2 * math.log(3))
    middle = -0.5 * math.log(0.1 + 0.9 * 0.5) - 0.2 * math.log(0.1 + 0.9 * 3)
    assert mixture_entropy(log_p, log_q, weight=0.1).item() == pytest.approx(middle)
    assert divergence(log_p, log_q, kind="tv", weight=0).item() == pytest.approx(0.325)


def test_gradients_in_closed_form():
    """Of the logits of the student, as the formulas of the literature have them."""
    t, s = draw(2, 6), draw(2, 6, seed=1).requires_grad_()
    p, q = t.softmax(-1), s.detach().softmax(-1)
    m, lam = 0.3 * p + 0.7 * q, 0.3

    def centred(g):
        return q * (g - (q * g).sum(-1, keepdim=True))

    own = lam * q + (1 - lam) * p
    expected = {
        "forward": q - p,
        "reverse": centred((q / p).log()),
        "js": 0.7 * centred((q / m).log()),
        "skew_forward": 0.7 * centred(-p / m),
        "skew_reverse": centred((q / own).log() + 1 - lam * q / own),
        "tv": centred(torch.sign(q - p)) / 2,
        "cross_entropy": q - p,
        "symmetric": (q - p + centred((q / p).log())) / 2,
    }
    for kind in KINDS:
        (found,) = torch.autograd.grad(divergence(log_softmax(t), log_softmax(s), kind=kind, weight=0.3).sum(), s)
        torch.testing.assert_close(found, expected[kind], rtol=1e-12, atol=1e-14)


def test_relative_entropy_has_all_its_derivatives():
    log_p, log_q = (log_softmax(draw(2, 4, seed=seed)).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(relative_entropy, (log_p, log_q))
    assert torch.autograd.gradgradcheck(relative_entropy, (log_p, log_q))


def test_relative_entropy_of_what_needs_no_gradient():
    log_p, log_q = log_softmax(draw(2, 4)), log_softmax(draw(2, 4, seed=1)).requires_grad_()
    relative_entropy(log_p, log_q).sum().backward()
    assert log_p.grad is None
    torch.testing.assert_close(log_q.grad, -log_p.exp())
    log_p.requires_grad_()
    (found,) = torch.autograd.grad(relative_entropy(log_p, log_q.detach()).sum(), log_p)
    torch.testing.assert_close(found, log_p.exp() * (log_p - log_q + 1))


def test_a_single_class():
    zeros = torch.zeros(2, 1)
    assert kl(zeros, zeros).tolist() == [0, 0]
    assert cross_entropy(zeros, zeros).tolist() == [0, 0]


@pytest.mark.parametrize("function", [kl, cross_entropy, symmetric_kl, total_variation])
def test_gradients_of_several_positions(function):
    """Each with its own weight, by either argument alone and by both, against plain formulas."""
    plain = {
        kl: lambda p, q: p * (p.log() - q.log()),
        cross_entropy: lambda p, q: -p * q.log(),
        symmetric_kl: lambda p, q: (p - q) * (p.log() - q.log()) / 2,
        total_variation: lambda p, q: (p - q).abs() / 2,
    }[function]
    weights = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 7.0]], dtype=torch.float64)
    for asked in ((True, False), (False, True), (True, True)):
        pair = [x.requires_grad_(grad) for x, grad in zip((draw(2, 3, 4), draw(2, 3, 4, seed=1)), asked, strict=True)]
        leaves = [x for x in pair if x.requires_grad]
        found = torch.autograd.grad((weights * function(*pair)).sum(), leaves)
        expected = torch.autograd.grad((weights.unsqueeze(-1) * plain(*(x.softmax(-1) for x in pair))).sum(), leaves)
        torch.testing.assert_close(found, expected)


def test_gradients_of_cross_entropy_where_both_rule_out_a_class():
    p, q = (torch.cat([draw(2, 3, seed=seed), torch.full((2, 1), -math.inf)], -1).requires_grad_() for seed in (0, 1))
    found = torch.autograd.grad(cross_entropy(p, q).sum(), (p, q))
    expected = torch.autograd.grad(cross_entropy(p[:, :3], q[:, :3]).sum(), (p, q))
    torch.testing.assert_close(found, expected)


def test_symmetric_gradient_where_some_probabilities_are_equal():
    log_p, log_q = (torch.tensor(x, dtype=torch.float64).log().requires_grad_() for x in ([0.5, 0.3, 0.2], [0.5, 0.2, 0.3]))
    (found,) = torch.autograd.grad(divergence(log_p, log_q, kind="symmetric", weight=0), log_q)
    expected = [0.0, (-0.2 * math.log(0.3 / 0.2) - 0.1) / 2, (0.3 * math.log(0.3 / 0.2) + 0.1) / 2]
    assert found.tolist() == pytest.approx(expected)


def test_adaptive_kl_when_the_tail_holds_what_is_asked_for_exactly():
    """Of two halves counted from below, the first holds not less than a half."""
    p, q = torch.zeros(1, 2, dtype=torch.float64), draw(1, 2)
    assert adaptive_kl(p, q, head=0.5, ascending=True).item() == pytest.approx(kl(p, q).item())
    assert adaptive_kl(p, q, head=0.5, ascending=False).item() == pytest.approx((kl(p, q) + kl(q, p)).item() / 2)


def test_smoothed_entropy_by_hand():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.1, 0.9, 0.0])
    assert smoothed_entropy(p, q, epsilon=0.1).item() == pytest.approx(0.5 * math.log(0.6 / 0.2) + 0.5 * math.log(0.6 / 1.0))
    assert smoothed_entropy(p, p, epsilon=0.1).item() == 0


def naive_adaptive(p: list[float], q: list[float], head: float, ascending: bool) -> float:
    order = sorted(range(len(p)), key=lambda k: p[k], reverse=not ascending)
    held, of_head, of_tail = 0.0, 0.0, 0.0
    for place, k in enumerate(order):
        held += p[k]
        in_tail = held < 1 - head if ascending else held > head and place > 0
        of_tail += in_tail * abs(p[k] - q[k])
        of_head += (not in_tail) * abs(p[k] - q[k])
    return (of_head * naive_kl(p, q) + of_tail * naive_kl(q, p)) / (of_head + of_tail)


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("head", [0.1, 0.3, 0.5, 0.9])
def test_adaptive_kl_by_loops(head, ascending):
    p, q = draw(6, 5), draw(6, 5, seed=1)
    expected = [naive_adaptive(a, b, head, ascending) for a, b in zip(shares(p), shares(q), strict=True)]
    assert adaptive_kl(p, q, head=head, ascending=ascending).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ascending", [True, False])
def test_adaptive_kl_of_equals(ascending):
    p = draw(3, 5)
    q = p.clone().requires_grad_()
    value = adaptive_kl(p, q, head=0.5, ascending=ascending)
    assert not value.any()
    (found,) = torch.autograd.grad(value.sum(), q)
    torch.testing.assert_close(found, torch.zeros_like(found))


def test_the_weights_of_adaptive_kl_have_no_gradient():
    p, q = draw(3, 5), draw(3, 5, seed=1).requires_grad_()
    value = adaptive_kl(p, q, head=0.5, ascending=False)
    share = ((value - kl(p, q)) / (kl(q, p) - kl(p, q))).detach()
    (found,) = torch.autograd.grad(value.sum(), q)
    (expected,) = torch.autograd.grad(((1 - share) * kl(p, q) + share * kl(q, p)).sum(), q)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("ascending", [True, False])
def test_adaptive_kl_of_a_masked_vocabulary(ascending):
    p, q = draw(3, 5), draw(3, 5, seed=1)
    masked = [torch.cat([x, torch.full((3, 2), -math.inf, dtype=x.dtype)], 1).requires_grad_() for x in (p, q)]
    q.requires_grad_()
    value, expected = (adaptive_kl(a.detach(), b, head=0.5, ascending=ascending) for a, b in (masked, (p, q)))
    torch.testing.assert_close(value, expected)
    (found,), (wanted,) = (torch.autograd.grad(x.sum(), y) for x, y in ((value, masked[1]), (expected, q)))
    torch.testing.assert_close(found[:, :5], wanted)
    assert not found[:, 5:].any()


def test_what_is_not_a_number_stays_visible():
    p, q = draw(3, 5), draw(3, 5, seed=1)
    for i in range(2):
        pair = [p.clone(), q.clone()]
        pair[i][1, 3] = math.nan
        assert kl(*pair).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("ascending", [False, True])
def test_the_weights_of_adaptive_kl_have_no_gradient_where_both_sides_learn(ascending):
    torch.manual_seed(0)
    p, q = (torch.randn(3, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    alone, beside = (torch.autograd.grad(adaptive_kl(x, q, head=0.5, ascending=ascending).sum(), q)[0] for x in (p.detach(), p))
    torch.testing.assert_close(beside, alone)
    # With the weights held, the teacher's gradient is that of the two divergences.
    forward, reverse = kl(p, q), kl(q, p)
    value = adaptive_kl(p, q, head=0.5, ascending=ascending)
    share = ((value - forward) / (reverse - forward)).detach()
    (found,) = torch.autograd.grad(value.sum(), p)
    (expected,) = torch.autograd.grad(((1 - share) * forward + share * reverse).sum(), p)
    torch.testing.assert_close(found, expected)
