"""Neuron selectivity transfer: values by hand, an oracle by loops for every kernel, memory, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.nst import NST, selectivity_gap
from limbeck.types import Signals


def oracle(student, teacher, kernel):
    """One example `(channels, positions)` of each."""
    s, t = ([[v / math.hypot(*row) for v in row] for row in x.tolist()] for x in (student, teacher))

    def dot(x, y):
        return sum(a * b for a, b in zip(x, y, strict=True))

    def square(x, y):
        return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))

    sigma = sum(square(x, y) for x in t for y in s) / (len(s) * len(t))
    k = {"linear": dot, "polynomial": lambda x, y: dot(x, y) ** 2, "gaussian": lambda x, y: math.exp(-square(x, y) / (2 * sigma))}[kernel]

    def mean(a, b):
        return sum(k(x, y) for x in a for y in b) / (len(a) * len(b))

    return mean(t, t) + mean(s, s) - 2 * mean(t, s)


def test_value_by_hand():
    """Both channels of the student on the first position, those of the teacher on one each."""
    student, teacher = torch.tensor([[[[2.0, 0.0]], [[1.0, 0.0]]]]), torch.tensor([[[[3.0, 0.0]], [[0.0, -4.0]]]])
    pair = Signals.of(student), Signals.of(teacher)
    assert NST()(*pair).item() == pytest.approx(1 / 2 + 1 - 2 * 1 / 2)
    assert NST(kernel="linear")(*pair).item() == pytest.approx(1 / 2 + 1 - 2 * 1 / 2)
    e = math.exp(-2 / 2)  # distances 0, 0, 2, 2 between the models, so that sigma squared is 1
    assert NST(kernel="gaussian")(*pair).item() == pytest.approx((1 + e) / 2 + 1 - 2 * (1 + e) / 2)


@pytest.mark.parametrize("kernel", ["polynomial", "linear", "gaussian"])
@pytest.mark.parametrize("shapes", [((3, 2, 2), (5, 2, 2)), ((6, 1, 3), (4, 1, 3)), ((2, 3, 3), (3, 3, 3))])
def test_oracle(draw, kernel, shapes):
    (s1, s2), (t1, t2) = draw(2, *shapes[0], seed=1), draw(2, *shapes[1], seed=2)
    got = NST(kernel=kernel)(Signals.of(s1, s2), Signals.of(t1, t2))
    assert got.shape == (2,)
    for i in range(2):
        expected = sum(oracle(s[i].flatten(1), t[i].flatten(1), kernel) for s, t in ((s1, t1), (s2, t2)))
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kernel", ["polynomial", "linear", "gaussian"])
def test_tokens_are_positions_and_levels_do_not_count(draw, kernel):
    s, t = draw(2, 3, 2, 2)
    loss = NST(kernel=kernel)
    expected = loss(Signals.of(s), Signals.of(t))
    torch.testing.assert_close(loss(*(Signals.of(x.flatten(2).mT) for x in (s, t))), expected)
    torch.testing.assert_close(loss(Signals.of(7 * s), Signals.of(t)), expected)
    torch.testing.assert_close(loss(Signals.of(s.flip(1)), Signals.of(t.repeat(1, 2, 1, 1))), expected)


@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (2, 40, 2, 2)])
def test_exactly_zero_at_equality(shape):
    x = torch.randn(shape)
    assert selectivity_gap(x, x.clone(), kernel="polynomial").tolist() == [0, 0]
    assert selectivity_gap(x, x.clone(), kernel="linear").tolist() == [0, 0]


@pytest.mark.parametrize("kernel", ["polynomial", "linear", "gaussian"])
def test_dead_channels_are_finite(kernel):
    student = torch.zeros(2, 3, 2, 2, requires_grad=True)
    for teacher in (torch.zeros(2, 4, 2, 2), torch.ones(2, 4, 2, 2)):
        value = NST(kernel=kernel)(Signals.of(student), Signals.of(teacher))
        value.sum().backward()
        assert value.isfinite().all()
        assert student.grad.isfinite().all()  # pyright: ignore[reportOptionalMemberAccess]


def test_one_and_the_same_channel_is_finite():
    """All distances are 0, and with them the width of the Gaussian."""
    student = torch.ones(1, 1, 2, 2, requires_grad=True)
    value = NST(kernel="gaussian")(Signals.of(student), Signals.of(torch.ones(1, 1, 2, 2)))
    value.sum().backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.isfinite().all()  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("kernel", ["polynomial", "gaussian"])
def test_autocast_does_not_touch_the_products(kernel):
    s, t = torch.randn(2, 2, 4, 3, 3).unbind()
    expected = selectivity_gap(s, t, kernel=kernel)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(selectivity_gap(s, t, kernel=kernel), expected)


def test_defaults_and_mistakes():
    assert NST().kernel == "polynomial"
    with pytest.raises(ValueError, match=r"^NST\.kernel must be one of 'polynomial', 'linear', 'gaussian', got 'cubic'$"):
        NST(kernel="cubic")  # pyright: ignore[reportArgumentType]
    text = r"^student \[2, 3, 4, 4\] and teacher \[2, 3, 2, 2\] must have as many positions here; pick layers of one height and width or "
    with pytest.raises(ShapeMismatch, match=text + r"let an adapter resize the larger\.$"):
        NST()(Signals.of(torch.zeros(2, 3, 4, 4)), Signals.of(torch.zeros(2, 3, 2, 2)))


def test_needs():
    needs = NST().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "space",
        False,
    )


def test_golden():
    check_parity("nst")


def test_channels_that_are_nearly_alike(draw):
    """The Gaussian is narrow then."""
    student, teacher = (1 + 0.1 * x for x in draw(2, 3, 2, 2))
    got = NST(kernel="gaussian")(Signals.of(student), Signals.of(teacher))
    expected = [oracle(s.flatten(1), t.flatten(1), "gaussian") for s, t in zip(student, teacher, strict=True)]
    assert got.tolist() == pytest.approx(expected, rel=1e-9)
