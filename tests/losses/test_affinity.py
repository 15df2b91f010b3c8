"""Affinity: values by hand, oracles that form the matrices, memory, corners, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.affinity import Affinity, affinity_gap, channel_affinity_gap
from limbeck.types import Signals


def test_value_by_hand():
    """Two positions: of one direction for the student, at right angles for the teacher."""
    student, teacher = torch.tensor([[[[1.0, 5.0]], [[0.0, 0.0]]]]), torch.tensor([[[[2.0, 0.0]], [[0.0, -3.0]]]])
    assert affinity_gap(student, teacher).item() == pytest.approx(math.sqrt(2) / 2)
    first = math.hypot(1 / 26 - 1, 5 / 26, 5 / 26, 25 / 26)
    assert channel_affinity_gap(student, teacher).item() == pytest.approx((first + 1) / 2)


@pytest.mark.parametrize("shapes", [((3, 2, 2), (5, 2, 2)), ((3, 3, 4), (2, 3, 4)), ((9, 1, 3), (9, 1, 3))])
def test_oracle(draw, shapes):
    (s,), (t,) = draw(2, *shapes[0], count=1), draw(2, *shapes[1], count=1, seed=9)

    def similarities(x):
        rows = x.flatten(1).T
        rows = rows / rows.square().sum(1, keepdim=True).sqrt()
        return rows @ rows.T / len(rows)

    got = Affinity()(Signals.of(s), Signals.of(t))
    for i in range(2):
        expected = (similarities(s[i]) - similarities(t[i])).square().sum().sqrt()
        assert got[i].item() == pytest.approx(expected.item(), rel=1e-9)


def test_oracle_of_channels(draw):
    s, t = draw(2, 3, 2, 4)
    got = Affinity(variant="torchdistill")(Signals.of(s), Signals.of(t))
    for i in range(2):
        total = 0.0
        for x, y in zip(s[i].flatten(1), t[i].flatten(1), strict=True):
            own, other = (v.outer(v) / v.square().sum() for v in (x, y))
            total += ((own - other) / 8).norm().item()
        assert got[i].item() == pytest.approx(total, rel=1e-9)


def test_layouts(draw):
    s, t = draw(2, 3, 2, 2)
    tokens = [x.flatten(2).mT for x in (s, t)]
    torch.testing.assert_close(affinity_gap(*tokens), affinity_gap(s, t))
    torch.testing.assert_close(channel_affinity_gap(*tokens), channel_affinity_gap(s, t))
    vectors = [x.flatten(1) for x in (s, t)]
    torch.testing.assert_close(channel_affinity_gap(*vectors), channel_affinity_gap(*(x.reshape(2, 1, 3, 4) for x in (s, t))))


@pytest.mark.parametrize("gap", [affinity_gap, channel_affinity_gap])
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 20, 2, 2)])
def test_exactly_zero_at_equality(gap, shape):
    student = torch.randn(shape, requires_grad=True)
    value = gap(student, student.detach().clone())
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert not student.grad.isnan().any()
    near = student.detach() + 1e-5 * torch.randn(shape)
    assert (gap(near, student.detach()) < 1e-3).all()


@pytest.mark.parametrize("gap", [affinity_gap, channel_affinity_gap])
def test_no_matrix_of_positions(gap):
    student, teacher = torch.randn(2, 1, 4, 30, 30)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
        gap(student.requires_grad_(), teacher)
    assert max(sizes) <= 4 * 900


def test_channels_that_are_active_in_places():
    student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    assert channel_affinity_gap(student, 3 * student).item() == 0
    assert channel_affinity_gap(student, teacher).item() == pytest.approx(math.sqrt(2) / 2)
    assert channel_affinity_gap(student, torch.ones_like(student)).item() == pytest.approx(math.sqrt(2 - 2 * 0.5) / 2)
    assert channel_affinity_gap(torch.ones_like(student), student).item() == pytest.approx(math.sqrt(2 - 2 * 0.5) / 2)


def test_dead_channels_and_positions():
    for teacher, expected in ((torch.zeros(1, 2, 1, 3), [0.0, 0.0]), (torch.ones(1, 2, 1, 3), [1.0, 2 / 3])):
        for k, gap in enumerate((affinity_gap, channel_affinity_gap)):
            student = torch.zeros(1, 2, 1, 3, requires_grad=True)
            value = gap(student, teacher)
            value.sum().backward()
            assert value.item() == pytest.approx(expected[k])
            assert student.grad.isfinite().all()
            assert gap(teacher, student.detach()).item() == pytest.approx(expected[k])


def test_defaults_and_mistakes():
    assert Affinity().variant == "paper"
    with pytest.raises(ValueError, match=r"^Affinity\.variant must be one of 'paper', 'torchdistill', got 'mean'$"):
        Affinity(variant="mean")
    text = r"^student \[2, 3, 4, 4\] and teacher \[2, 3, 2, 2\] must have as many positions here; pick layers of one height and width or "
    with pytest.raises(ShapeMismatch, match=text + r"let an adapter resize the larger\.$"):
        affinity_gap(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2))
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 3, 4, 4\] and teacher \[2, 1, 4, 4\] must have the same shape"):
        channel_affinity_gap(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize(("variant", "match"), [("paper", "space"), ("torchdistill", "full")])
def test_needs(variant, match):
    needs = Affinity(variant=variant).needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        match,
        False,
    )


def test_golden():
    check_parity("affinity")
