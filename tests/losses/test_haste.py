"""Attention alignment: value by hand, an oracle by loops, heads, extremes, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.haste import HASTE, attention_cross_entropy
from limbeck.types import Signals


def test_value_by_hand():
    """Teacher 3/4, 1/4, student 1/2, 1/2, of the first head; the student's second head has no partner."""
    student = torch.tensor([[[[0.0, 0.0]], [[5.0, 0.0]]]])
    teacher = torch.tensor([[[[math.log(3.0), 0.0]]]])
    assert HASTE()(Signals.of(student), Signals.of(teacher)).tolist() == pytest.approx([math.log(2)])


def oracle(s, t):
    total, count = 0.0, 0
    for h in range(min(len(s), len(t))):
        for q in range(s.shape[1]):
            p, r = ([math.exp(v) for v in x[h, q].tolist()] for x in (t, s))
            total -= sum(a / sum(p) * math.log(b / sum(r)) for a, b in zip(p, r, strict=True))
            count += 1
    return total / count


@pytest.mark.parametrize("heads", [(2, 3), (3, 2)])
def test_oracle(draw, heads):
    (a,), (b,) = (draw(2, n, 3, 4, count=1, seed=i) for i, n in enumerate(heads))
    (c,), (d,) = (draw(2, n, 2, 2, count=1, seed=9 + i) for i, n in enumerate(heads))
    got = HASTE()(Signals.of(a, c), Signals.of(b, d))
    assert got.shape == (2,)
    for i in range(2):
        assert got[i].item() == pytest.approx((oracle(a[i], b[i]) + oracle(c[i], d[i])) / 2, rel=1e-9)


def test_rows_of_attention_stand_as_tokens(draw):
    s, t = draw(2, 3, 1, 5)
    expected = attention_cross_entropy(s, t)
    torch.testing.assert_close(attention_cross_entropy(*(x[:, :, 0].mT for x in (s, t))), expected)


def test_the_least_value_is_the_teachers_entropy(draw):
    (t,) = draw(2, 3, 4, 5, count=1)
    own = t.clone().requires_grad_()
    value = attention_cross_entropy(own, t)
    p = t.softmax(-1)
    torch.testing.assert_close(value, -(p * p.log()).sum(-1).mean((1, 2)))
    value.sum().backward()
    assert own.grad.abs().max() < 1e-12


def test_extremes_are_finite_unless_they_are_to_be_as_in_the_authors_code():
    student, teacher = torch.tensor([[[[0.0, 1e4]]]]), torch.tensor([[[[0.0, 0.0]]]])
    assert attention_cross_entropy(student, teacher).item() == pytest.approx(5e3)
    assert attention_cross_entropy(student, teacher, stable=False).item() == math.inf


def test_needs_and_mistakes():
    needs = HASTE().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "space",
        False,
    )
    text = r"^attention has heads and keys, found a feature of shape \[2, 3\]; tap an attention layer\.$"
    with pytest.raises(ShapeMismatch, match=text):
        attention_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3, 4, 4\] and teacher \[2, 3, 4, 5\]"):
        attention_cross_entropy(torch.zeros(2, 3, 4, 4), torch.zeros(2, 6, 4, 5))


def test_golden():
    check_parity("haste")
