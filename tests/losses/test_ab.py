"""Activation boundaries: values by hand, an oracle by loops, weights of layers, golden numbers."""

from __future__ import annotations

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.ab import AB, boundary_gap
from limbeck.types import Signals


def test_value_by_hand():
    """Only the sign of the teacher counts, 0 is inactive, and beyond the margin nothing is asked."""
    student = torch.tensor([[0.5, -2.0, 3.0, 0.5, -2.0, 0.5]])
    teacher = torch.tensor([[9.0, 0.1, 1.0, -1.0, -7.0, 0.0]])
    assert boundary_gap(student, teacher, margin=1).tolist() == [[0.25, 9.0, 0.0, 2.25, 0.0, 2.25]]
    assert AB()(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(13.75)
    assert AB(margin=0)(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(4.5)


@pytest.mark.parametrize("variant", ["paper", "zoo"])
@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_oracle(draw, variant, margin):
    shapes = [(2, 4, 3, 3), (2, 5, 2, 2), (2, 6, 1, 2)]
    students, teachers = ([draw(*shape, count=1, seed=seed + i)[0] for i, shape in enumerate(shapes)] for seed in (1, 11))
    got = AB(margin=margin, variant=variant)(Signals.of(*students), Signals.of(*teachers))
    assert got.shape == (2,)
    for i in range(2):
        total = 0.0
        for layer, (s, t) in enumerate(zip(students, teachers, strict=True)):
            weight = 2.0 ** (layer - 2) * 3 / 1000 if variant == "zoo" else 1.0
            for a, b in zip(s[i].flatten().tolist(), t[i].flatten().tolist(), strict=True):
                total += weight * max(0.0, margin - a if b > 0 else margin + a) ** 2
        assert got[i].item() == pytest.approx(total, rel=1e-9)


def test_half_precision_is_widened(draw):
    s, t = (x.bfloat16() for x in draw(2, 5))
    got = boundary_gap(s, t, margin=0.3)
    torch.testing.assert_close(got, boundary_gap(s.float(), t.float(), margin=0.3), rtol=0, atol=0)


def test_defaults_and_mistakes():
    assert (AB().margin, AB().variant) == (1.0, "paper")
    with pytest.raises(ValueError, match=r"^AB\.margin must be >= 0, got -1$"):
        AB(margin=-1)
    with pytest.raises(ValueError, match=r"^AB\.variant must be one of 'paper', 'zoo', got 'mean'$"):
        AB(variant="mean")
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 3\] and teacher \[2, 1\] must have the same shape"):
        AB()(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 1)))


def test_needs_and_exemptions():
    needs = AB().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "full",
        False,
    )
    assert AB.exempt == {"equality": "a response on the right side that is smaller than the margin is still to grow"}


def test_golden():
    check_parity("ab", "ab_torchdistill")
