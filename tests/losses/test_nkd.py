"""NKD: value by hand, an oracle by loops, the paper's decomposition, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import SignalMissing
from limbeck.losses.nkd import NKD, normalized_cross_entropies
from limbeck.losses.soft_cross_entropy import softened_cross_entropy
from limbeck.types import IGNORE, Signals

LABELS = torch.tensor([0, 3, 5, 2])


def test_two_classes_by_hand():
    """The other class is one: it is certain for both, and only the label's term is left."""
    student, teacher = torch.tensor([[0.0, math.log(4)]]), torch.tensor([[math.log(3), 0.0]])
    target, others = normalized_cross_entropies(student, teacher, torch.tensor([0]), temperature=1.0)
    assert target.item() == pytest.approx(-0.75 * math.log(0.2), rel=1e-6)
    assert others.item() == 0


def test_oracle(draw):
    student, teacher = draw(4, 6)
    got = NKD(gamma=0.7, temperature=2.0)(Signals(student), Signals(teacher), LABELS)
    for i, y in enumerate(LABELS.tolist()):
        p, q = ([math.exp(z) for z in x[i].tolist()] for x in (teacher, student))
        target = -p[y] / sum(p) * math.log(q[y] / sum(q))
        p, q = ([math.exp(z / 2) for k, z in enumerate(x[i].tolist()) if k != y] for x in (teacher, student))
        others = -sum(a / sum(p) * math.log(b / sum(q)) for a, b in zip(p, q, strict=True))
        assert got[i].item() == pytest.approx(target + 0.7 * 4 * others, rel=1e-9)


def test_decomposition(draw):
    """At temperature 1 the cross-entropy is the label's term, the normalised others times their share, and what both shares give."""
    student, teacher = draw(4, 6)
    target, others = normalized_cross_entropies(student, teacher, LABELS, temperature=1.0)
    p, q = (x.softmax(-1).gather(-1, LABELS[:, None])[:, 0] for x in (teacher, student))
    expected = softened_cross_entropy(student, teacher, temperature=1.0)
    torch.testing.assert_close(target + (1 - p) * others - (1 - p) * (1 - q).log(), expected)


def test_only_the_other_classes_have_a_temperature(draw):
    student, teacher = draw(4, 6)
    one, two = (normalized_cross_entropies(student, teacher, LABELS, temperature=t) for t in (1.0, 2.0))
    assert torch.equal(one[0], two[0])
    assert not torch.allclose(one[1], two[1])


def test_unlabelled_is_zero(draw):
    student, teacher = draw(4, 6)
    labels = LABELS.clone()
    labels[1] = IGNORE
    got, full = (normalized_cross_entropies(student, teacher, y, temperature=2.0) for y in (labels, LABELS))
    for part, whole in zip(got, full, strict=True):
        assert part[1] == 0
        assert torch.equal(part[[0, 2, 3]], whole[[0, 2, 3]])


def test_tokens(draw):
    student, teacher = draw(2, 2, 6)
    got = NKD()(Signals(student), Signals(teacher), LABELS.view(2, 2))
    flat = NKD()(Signals(student.flatten(0, 1)), Signals(teacher.flatten(0, 1)), LABELS)
    torch.testing.assert_close(got, flat.view(2, 2))


def test_defaults_bounds_and_mistakes():
    assert (NKD().gamma, NKD().temperature) == (1.5, 1.0)
    with pytest.raises(ValueError, match=r"^NKD\.temperature must be > 0, got 0$"):
        NKD(temperature=0)
    with pytest.raises(ValueError, match=r"^NKD\.gamma must be >= 0, got -1$"):
        NKD(gamma=-1)
    with pytest.raises(SignalMissing, match="this loss needs labels, and the batch has none"):
        NKD()(Signals(torch.zeros(1, 3)), Signals(torch.zeros(1, 3)))


def test_needs():
    needs = NKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, True, True, "none", ("class",))


def test_golden():
    check_parity("nkd", "nkd_clskd")
