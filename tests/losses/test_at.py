"""Attention transfer: value by hand, an oracle by loops, both variants, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.at import AT, attention
from limbeck.types import Signals


def test_value_by_hand():
    """The attention of the student lies on the first of two positions, that of the teacher on the second."""
    student, teacher = torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]], [[0.0, -1.0]]]])
    assert AT()(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(math.sqrt(2))
    assert AT(variant="official")(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(2 / 2)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_oracle(draw, power, variant):
    (s1, s2), (t1, t2) = (draw(2, 2, 3, 2, seed=1), draw(2, 4, 3, 2, seed=2))
    got = AT(power=power, variant=variant)(Signals.of(s1, s2), Signals.of(t1, t2))
    assert got.shape == (2,)

    def attended(x):
        q = [sum(abs(x[c, i, j].item()) ** power for c in range(len(x))) for i in range(3) for j in range(2)]
        return [value / math.hypot(*q) for value in q]

    for i in range(2):
        total = 0.0
        for s, t in ((s1, t1), (s2, t2)):
            squares = [(a - b) ** 2 for a, b in zip(attended(s[i]), attended(t[i]), strict=True)]
            total += math.sqrt(sum(squares)) if variant == "paper" else sum(squares) / 6
        assert got[i].item() == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("power", [2.0, 3.0])
def test_zoo_keeps_signs_and_pools_to_a_square(draw, power):
    (s,), (t,) = draw(2, 2, 4, 6, count=1), draw(2, 3, 2, 3, count=1, seed=4)
    got = AT(power=power, variant="zoo")(Signals.of(s), Signals.of(t[..., :2]))
    swapped = AT(power=power, variant="zoo")(Signals.of(t[..., :2]), Signals.of(s))

    def attended(x):
        q = [sum(x[c, i, j].item() ** int(power) for c in range(len(x))) for i in range(2) for j in range(2)]
        return [value / math.hypot(*q) for value in q]

    for i in range(2):
        pooled = s[i].unflatten(2, (2, 3)).unflatten(1, (2, 2)).mean((2, 4))
        expected = sum((a - b) ** 2 for a, b in zip(attended(pooled), attended(t[i, ..., :2]), strict=True)) / 4
        assert got[i].item() == pytest.approx(expected, rel=1e-9)
        assert swapped[i].item() == pytest.approx(expected, rel=1e-9)


def test_zoo_reads_one_height_as_one_size(draw):
    s, t = draw(2, 3, 2, 3)
    loss = AT(variant="zoo")
    torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), AT(variant="official")(Signals.of(s), Signals.of(t)))
    tokens = [x.flatten(2).transpose(1, 2) for x in (s, t)]
    torch.testing.assert_close(loss(*map(Signals.of, tokens)), loss(Signals.of(s), Signals.of(t)))


def test_scale_of_a_layer_does_not_matter(draw):
    student, teacher = draw(3, 4, 2, 2)
    torch.testing.assert_close(AT()(Signals.of(5 * student), Signals.of(teacher)), AT()(Signals.of(student), Signals.of(-teacher)))


def test_tokens_are_positions(draw):
    """Tokens `(batch, tokens, channels)` mean the same as the map that they are cut from."""
    (maps,) = draw(2, 3, 2, 2, count=1)
    torch.testing.assert_close(attention(maps.flatten(2).transpose(1, 2), power=3.0, signed=True), attention(maps, power=3.0, signed=True))


def test_a_dead_map_is_finite():
    student = torch.zeros(1, 2, 2, 2, requires_grad=True)
    value = AT()(Signals.of(student), Signals.of(torch.ones(1, 2, 2, 2)))
    value.sum().backward()
    assert value.item() == pytest.approx(1.0)
    assert student.grad.isfinite().all()


def test_half_precision_is_widened(draw):
    s, t = (x.bfloat16() for x in draw(2, 3, 4, 4))
    torch.testing.assert_close(AT()(Signals.of(s), Signals.of(t)), AT()(Signals.of(s.float()), Signals.of(t.float())))


def test_defaults_bounds_and_mistakes():
    assert (AT().power, AT().variant) == (2.0, "paper")
    with pytest.raises(ValueError, match=r"^AT\.power must be >= 1, got 0\.5$"):
        AT(power=0.5)
    with pytest.raises(ValueError, match=r"^AT\.variant must be one of 'paper', 'official', 'zoo', got 'mean'$"):
        AT(variant="mean")
    with pytest.raises(ValueError, match=r"^AT\.power must be a whole number where variant is 'zoo', got 2\.5$"):
        AT(power=2.5, variant="zoo")
    assert AT(power=2.5).power == 2.5
    with pytest.raises(
        ShapeMismatch, match=r"^attention needs maps or tokens, found a feature of shape \[2, 3\]; pick an earlier layer\.$"
    ):
        AT()(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 3)))
    with pytest.raises(ShapeMismatch, match=r"student \[2, 16\] and teacher \[2, 4\]"):
        AT()(Signals.of(torch.zeros(2, 3, 4, 4)), Signals.of(torch.zeros(2, 3, 2, 2)))


def test_needs():
    needs = AT().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "space",
        False,
    )


def test_golden():
    check_parity("at_paper", "at", "at_zoo")
