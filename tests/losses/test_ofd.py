"""Overhaul of feature distillation: margins, the partial distance by hand, an oracle, weights of layers, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.ofd import OFD, margin_of_normal, margin_of_responses, partial_distance
from limbeck.types import Signals


def test_margin_of_responses():
    """Channels with two, with one and with no negative response; one of them 0, which is none."""
    teacher = torch.tensor([[[[-1.0, 5.0]], [[0.0, -4.0]], [[1.0, 0.0]]], [[[-2.0, 0.5]], [[3.0, 1.0]], [[2.0, 1.0]]]])
    assert margin_of_responses(teacher).tolist() == [-1.5, -4.0, 0.0]


def test_partial_distance_has_its_derivatives(draw):
    student, teacher = draw(3, 2, 2, 2)
    student.requires_grad_()
    margin = margin_of_responses(teacher)
    assert torch.autograd.gradcheck(lambda x: partial_distance(x, teacher, margin), student)
    assert torch.autograd.gradgradcheck(lambda x: partial_distance(x, teacher, margin), student)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.0, 1.0), (-2.0, 0.5), (3.0, 1.2), (6.0, 2.0), (-100.0, 1.0)])
def test_margin_of_normal(mean, deviation):
    """Against a sum over a fine grid of the negative half-line."""
    grid = torch.linspace(-60 + min(mean, 0), 0, 800_001, dtype=torch.float64)
    density = torch.exp(-0.5 * ((grid - mean) / deviation) ** 2)
    expected = ((grid * density).sum() / density.sum()).item()
    got = margin_of_normal(torch.tensor([mean]), torch.tensor([deviation]))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(expected, rel=2e-3)


def test_margin_of_normal_where_almost_nothing_is_negative():
    """A share of 0.00135 at three deviations, of 0.00097 at 3.1."""
    above, below = margin_of_normal(torch.tensor([3.0, 3.1]), torch.tensor([1.0, 1.0])).tolist()
    assert above == pytest.approx(3 - math.exp(-4.5) / math.sqrt(2 * math.pi) / 0.0013498980, rel=1e-4)
    assert below == -3.0
    flat = margin_of_normal(torch.tensor([0.0, 2.0, -2.0]), torch.zeros(3))
    assert flat.tolist() == pytest.approx([0.0, 0.0, -2.0], abs=1e-9)


def test_partial_distance_by_hand():
    """Margins -1 and -3; below a negative target nothing is asked, above it and at positive targets all is."""
    student = torch.tensor([[[[-5.0, 0.5, 2.0]], [[-2.0, -9.0, -9.0]]]])
    teacher = torch.tensor([[[[-4.0, -4.0, 3.0]], [[-9.0, -9.0, 1.0]]]])
    margin = torch.tensor([-1.0, -3.0])
    assert partial_distance(student, teacher, margin).tolist() == [1.5**2 + 1 + 1 + 100]
    at_zero = partial_distance(torch.tensor([[[[-1.0, 1.0]]]]), torch.tensor([[[[0.0, 0.0]]]]), torch.zeros(1))
    assert at_zero.tolist() == [1.0]
    with pytest.raises(ShapeMismatch, match=r"^student \[1, 2, 1, 3\] and teacher \[1, 1, 1, 3\] must have the same shape"):
        partial_distance(student, teacher[:, :1], margin)


def test_partial_distance_of_half_precision_is_counted_in_single(draw):
    student, teacher, margin = (x.bfloat16() for x in (*draw(2, 3, 4, 4), draw(3)[0]))
    found = partial_distance(student, teacher, margin)
    torch.testing.assert_close(found, partial_distance(student.float(), teacher.float(), margin.float()))
    assert found.dtype == torch.float32


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("margin", ["responses", "normal"])
def test_oracle(draw, variant, margin):
    shapes = [((3, 4, 4), (5, 4, 4)), ((4, 2, 2), (6, 2, 2)), ((4, 1, 3), (2, 1, 3))]
    students, teachers = ([draw(3, *pair[k], count=1, seed=seed + i)[0] for i, pair in enumerate(shapes)] for k, seed in ((0, 1), (1, 11)))
    torch.manual_seed(0)
    loss = OFD(variant=variant, margin=margin)
    loss.setup(Signals.of(*students), Signals.of(*teachers))
    got = loss.double()(Signals.of(*students), Signals.of(*teachers))
    total = torch.zeros(3, dtype=torch.float64)
    for layer, (connector, s, t) in enumerate(zip(loss.connectors, students, teachers, strict=True)):
        ours = connector(s)
        for c in range(t.shape[1]):
            x, y = ours[:, c], t[:, c]
            normal = margin_of_normal(y.mean()[None], y.std(correction=0)[None])[0]
            floor = y[y < 0].mean() if margin == "responses" else normal
            target = y.clamp_min(floor.item())
            counted = ((x - target) ** 2 * ((x > target) | (target > 0))).sum((1, 2))
            total += counted * (2.0 ** (layer - 2) / 1000 if variant == "official" else 1.0)
    torch.testing.assert_close(got, total)


def test_connectors():
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    loss = OFD()
    loss.setup(Signals.of(s, s), Signals.of(t, t[:, :2]))
    assert [[tuple(p.shape) for p in connector.parameters()] for connector in loss.connectors] == [
        [(5, 3, 1, 1), (5,), (5,)],
        [(2, 3, 1, 1), (2,), (2,)],
    ]
    wide = OFD()
    wide.setup(Signals.of(s.double()), Signals.of(t))
    assert wide(Signals.of(s.double()), Signals.of(t)).dtype == torch.float64
    expected = loss(Signals.of(s, s), Signals.of(t, t[:, :2]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(Signals.of(s, s), Signals.of(t, t[:, :2])), expected)


def test_defaults_needs_and_exemptions():
    assert (OFD().margin, OFD().variant) == ("responses", "paper")
    with pytest.raises(ValueError, match=r"^OFD\.margin must be one of 'responses', 'normal', got 'none'$"):
        OFD(margin="none")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^OFD\.variant must be one of 'paper', 'official', got 'mean'$"):
        OFD(variant="mean")  # pyright: ignore[reportArgumentType]
    needs = OFD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "space",
        False,
    )
    assert OFD.exempt == {
        "equality": "the student's features pass a convolution first",
        "independence": "the convolution is normalised over the batch, and the margins are those of the batch",
    }


def test_golden():
    check_parity("ofd")
