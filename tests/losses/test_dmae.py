"""Masked-autoencoder distillation: value by hand, an oracle by loops, layouts, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.dmae import DMAE
from limbeck.types import Signals


def test_value_by_hand():
    """Directions (3/5, 4/5) and (0, 1)."""
    student, teacher = Signals.of(torch.tensor([[6.0, 8.0]])), Signals.of(torch.tensor([[0.0, 2.0]]))
    assert DMAE()(student, teacher).tolist() == pytest.approx([(3 / 5 + 1 / 5) / 2])
    assert DMAE(distance="l2")(student, teacher).tolist() == pytest.approx([(9 / 25 + 1 / 25) / 2])


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_oracle(draw, distance):
    (a, b), (c, d) = draw(2, 3, 4, seed=1), draw(2, 5, 2, seed=2)
    got = DMAE(distance=distance)(Signals.of(a, c), Signals.of(b, d))
    assert got.shape == (2,)
    for i in range(2):
        expected = 0.0
        for s, t in ((a[i], b[i]), (c[i], d[i])):
            gaps = []
            for x, y in zip(s.tolist(), t.tolist(), strict=True):
                gaps += [abs(u / math.hypot(*x) - v / math.hypot(*y)) for u, v in zip(x, y, strict=True)]
            expected += sum(g if distance == "l1" else g * g for g in gaps) / len(gaps)
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


def test_maps_are_tokens_and_lengths_are_free(draw):
    s, t = draw(2, 3, 2, 4)
    expected = DMAE()(Signals.of(s), Signals.of(t))
    torch.testing.assert_close(DMAE()(*(Signals.of(3 * x.flatten(2).mT) for x in (s, t))), expected)


def test_zero_tokens_are_finite():
    student = torch.zeros(1, 2, 3, requires_grad=True)
    DMAE()(Signals.of(student), Signals.of(torch.ones(1, 2, 3))).sum().backward()
    assert student.grad.isfinite().all()


def test_defaults_needs_and_mistakes():
    assert DMAE().distance == "l1"
    with pytest.raises(ValueError, match=r"^DMAE\.distance must be one of 'l1', 'l2', got 'l3'$"):
        DMAE(distance="l3")
    needs = DMAE().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "full",
        False,
    )
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3\] and teacher \[2, 4\]"):
        DMAE()(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 4)))


def test_golden():
    check_parity("dmae")
