"""Channel-wise distillation: value by hand, an oracle by loops, invariances, extremes, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.cwd import CWD, channel_divergence
from limbeck.losses.kd import KD
from limbeck.types import Signals


def test_value_by_hand():
    """Teacher 3/4, 1/4 over two places, student 1/2, 1/2; the second channel agrees up to its level."""
    log3 = math.log(3.0)
    student = torch.tensor([[[[0.0, 0.0]], [[1.0, 2.0]]]])
    teacher = torch.tensor([[[[log3, 0.0]], [[5.0, 6.0]]]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert CWD(temperature=1.0)(Signals.of(student), Signals.of(teacher)).tolist() == pytest.approx([expected / 2])
    mse = CWD(divergence="mse")(Signals.of(student), Signals.of(teacher))
    assert mse.tolist() == pytest.approx([2 * 0.25**2 / 2], rel=1e-5)


@pytest.mark.parametrize("norm", ["channel", "spatial"])
@pytest.mark.parametrize("divergence", ["kl", "mse"])
@pytest.mark.parametrize("stable", [True, False])
def test_oracle(draw, norm, divergence, stable):
    s, t = draw(2, 3, 2, 4)
    got = channel_divergence(s, t, norm=norm, divergence=divergence, temperature=2.5, stable=stable)
    assert got.shape == (2,)
    heat = 2.5 if divergence == "kl" else 1.0
    for n in range(2):
        total, count = 0.0, 0
        a, b = s[n].flatten(1), t[n].flatten(1)
        for x, y in zip(a, b, strict=True) if norm == "channel" else zip(a.T, b.T, strict=True):
            p, q = ([math.exp(v / heat) for v in row.tolist()] for row in (y, x))
            p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
            if divergence == "kl":
                total += heat**2 * sum(u * math.log(u / v) for u, v in zip(p, q, strict=True))
            else:
                total += sum((u - v) ** 2 for u, v in zip(p, q, strict=True))
            count += 1
        assert got[n].item() == pytest.approx(total / count, rel=1e-9)


@pytest.mark.parametrize(("norm", "dims"), [("channel", (2, 3)), ("spatial", (1,))])
@pytest.mark.parametrize("divergence", ["kl", "mse"])
def test_the_level_of_a_distribution_does_not_matter(draw, norm, dims, divergence):
    s, t = draw(2, 3, 2, 4)
    loss = CWD(norm=norm, divergence=divergence)
    moved = s + 10 * t.mean(dims, keepdim=True)
    torch.testing.assert_close(loss(Signals.of(moved), Signals.of(t)), loss(Signals.of(s), Signals.of(t)))


@pytest.mark.parametrize("norm", ["channel", "spatial"])
def test_logits_tokens_and_vectors(draw, norm):
    s, t = draw(2, 3, 2, 4)
    loss = CWD(norm=norm)
    expected = loss(Signals.of(s), Signals.of(t))
    torch.testing.assert_close(loss(Signals(s), Signals(t)), expected)
    torch.testing.assert_close(loss(*(Signals.of(x.flatten(2).mT) for x in (s, t))), expected)
    vectors = [Signals(x[:, :, 0, 0]) for x in (s, t)]
    torch.testing.assert_close(loss(*vectors), KD(temperature=4.0)(*vectors))


@pytest.mark.parametrize("divergence", ["kl", "mse"])
@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 4), (2, 3, 2, 2)])
def test_half_precision_is_widened_before_it_is_divided(divergence, shape):
    s, t = torch.randn(2, *shape).bfloat16().unbind()
    loss = CWD(divergence=divergence, temperature=3.0)
    assert torch.equal(loss(Signals.of(s), Signals.of(t)), loss(Signals.of(s.float()), Signals.of(t.float())))


def test_extremes_are_finite_unless_they_are_to_be_as_in_the_authors_code():
    student, teacher = torch.tensor([[[[0.0, 1e4]]]]), torch.tensor([[[[0.0, 0.0]]]])
    options = {"norm": "channel", "divergence": "kl", "temperature": 1.0}
    assert channel_divergence(student, teacher, **options).item() == pytest.approx(5e3 - math.log(2))
    assert channel_divergence(student, teacher, **options, stable=False).item() == math.inf


def test_defaults_needs_and_mistakes():
    assert (CWD().temperature, CWD().norm, CWD().divergence) == (4.0, "channel", "kl")
    with pytest.raises(ValueError, match=r"^CWD\.temperature must be > 0, got 0$"):
        CWD(temperature=0)
    with pytest.raises(ValueError, match=r"^CWD\.norm must be one of 'channel', 'spatial', got 'none'$"):
        CWD(norm="none")
    with pytest.raises(ValueError, match=r"^CWD\.divergence must be one of 'kl', 'mse', got 'l1'$"):
        CWD(divergence="l1")
    needs = CWD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        True,
        False,
        True,
        "optional",
        "full",
        False,
    )
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3, 4, 4\] and teacher \[2, 5, 4, 4\]"):
        CWD()(Signals.of(torch.zeros(2, 3, 4, 4)), Signals.of(torch.zeros(2, 5, 4, 4)))


def test_golden():
    check_parity("cwd")
