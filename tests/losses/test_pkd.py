"""Pearson distillation: value by hand, correlation as oracle, invariances, constant channels, golden numbers."""

from __future__ import annotations

import statistics

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.pkd import PKD, pearson_gap
from limbeck.types import Signals


def test_value_by_hand():
    """Standardised -1, 1 against 1, -1: half the mean of 4; with the deviation of a sample they are smaller by 1 / sqrt 2."""
    student, teacher = Signals.of(torch.tensor([[1.0], [3.0]])), Signals.of(torch.tensor([[7.0], [5.0]]))
    assert PKD()(student, teacher).item() == pytest.approx(2, rel=1e-5)
    assert PKD(variant="official")(student, teacher).item() == pytest.approx(1, rel=1e-5)


def correlation(s, t):
    return statistics.correlation(s.flatten().tolist(), t.flatten().tolist())


def test_oracle(draw):
    (a, b), (c, d) = draw(3, 2, 2, 3, seed=1), draw(3, 4, 2, 2, seed=2)
    got = PKD(epsilon=1e-12)(Signals.of(a, c), Signals.of(b, d))
    expected = sum(sum(1 - correlation(s[:, k], t[:, k]) for k in range(s.shape[1])) / s.shape[1] for s, t in ((a, b), (c, d)))
    assert got.shape == ()
    assert got.item() == pytest.approx(expected, rel=1e-9)


def test_epsilon_is_added_to_the_deviation():
    """Deviations 1 and 2 become 2 and 3: values -+1/2 against -+2/3."""
    student, teacher = torch.tensor([[-1.0], [1.0]]), torch.tensor([[-2.0], [2.0]])
    assert PKD(epsilon=1.0)(Signals.of(student), Signals.of(teacher)).item() == pytest.approx((2 / 3 - 1 / 2) ** 2 / 2)


def test_scale_and_offset_of_a_channel_do_not_matter(draw):
    s, t = draw(3, 4, 2, 2)
    scale = torch.tensor([0.5, 1, 2, 30], dtype=torch.float64)[:, None, None]
    loss = PKD(epsilon=1e-12)
    torch.testing.assert_close(loss(Signals.of(scale * s - 7), Signals.of(t)), loss(Signals.of(s), Signals.of(t)))


def test_tokens_and_vectors_are_maps(draw):
    s, t = draw(3, 4, 2, 2)
    tokens = [x.flatten(2).mT for x in (s, t)]
    torch.testing.assert_close(PKD()(*map(Signals.of, tokens)), PKD()(Signals.of(s), Signals.of(t)))
    rows = [x.permute(0, 2, 3, 1).flatten(0, 2) for x in (s, t)]
    torch.testing.assert_close(PKD()(*map(Signals.of, rows)), PKD()(Signals.of(s), Signals.of(t)))


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("batch", [1, 3])
def test_constant_channels_and_single_values_are_finite(variant, batch):
    student = torch.zeros(batch, 2, requires_grad=True)
    value = PKD(variant=variant)(Signals.of(student), Signals.of(torch.randn(batch, 2)))
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_defaults_needs_and_mistakes():
    assert (PKD().epsilon, PKD().variant) == (1e-6, "paper")
    with pytest.raises(ValueError, match=r"^PKD\.epsilon must be > 0, got 0$"):
        PKD(epsilon=0)
    with pytest.raises(ValueError, match=r"^PKD\.variant must be one of 'paper', 'official', got 'zoo'$"):
        PKD(variant="zoo")  # pyright: ignore[reportArgumentType]
    needs = PKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "full",
        True,
    )
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 3\] and teacher \[2, 4\] must have the same shape"):
        pearson_gap(torch.zeros(2, 3), torch.zeros(2, 4), epsilon=1.0, correction=0)
    layer = torch.zeros(2, 3)
    with pytest.raises(SignalMissing, match=r"^features come in pairs, found 2 of the student .* and 1 of the teacher"):
        PKD()(Signals.of(layer, layer), Signals.of(layer))


def test_golden():
    check_parity("pkd")
