"""ScaleKD: the terms against transforms written out, weights, what is learned, golden numbers."""

from __future__ import annotations

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses._attention_projector import tokens_as_map
from limbeck.losses.scalekd import ScaleKD, detail_gap, spatial_gap
from limbeck.ops.dct import dct2, idct2
from limbeck.types import Signals


def test_spatial_by_hand():
    """Two positions: a right angle (squared distance 2) and the same direction."""
    student, teacher = torch.tensor([[[[3.0, 1.0]], [[0.0, 1.0]]]]), torch.tensor([[[[0.0, 5.0]], [[2.0, 5.0]]]])
    assert spatial_gap(student, teacher).item() == pytest.approx(2, abs=1e-6)


def test_details_are_what_the_transform_leaves(draw):
    s, t = draw(2, 3, 4, 3)

    def without_mean(x):
        x = dct2(x)
        x[:, :, 0, 0] = 0
        return idct2(x)

    torch.testing.assert_close(detail_gap(s, t), spatial_gap(without_mean(s), without_mean(t)))
    torch.testing.assert_close(detail_gap(s + 3, t - 1), detail_gap(s, t))


def test_is_zero_at_equality_and_blind_to_length(draw):
    (x,) = draw(2, 3, 2, 2, count=1)
    assert not spatial_gap(x, x.clone()).any()
    assert not detail_gap(x, x.clone()).any()
    torch.testing.assert_close(spatial_gap(4 * x, x), torch.zeros(2, dtype=torch.float64))


def test_weights_and_projectors(draw):
    (s,), (t,) = draw(2, 3, 2, 2, count=1), draw(2, 4, 2, 2, count=1)
    loss = ScaleKD(spatial_weight=0.5, frequency_weight=0.25, heads=3, softmax_scale=2.0)
    loss.setup(Signals.of(s), Signals.of(t))
    value = loss(Signals.of(s), Signals.of(t))
    value.sum().backward()
    assert value.shape == (2,)
    assert all(p.grad is not None for p in loss.parameters())
    assert {(loss.whole.heads, loss.whole.scale), (loss.details.heads, loss.details.scale)} == {(2, 2.0 * 2**-0.5)}
    assert not torch.equal(loss.whole.query, loss.details.query)
    whole, details = (tokens_as_map(p(s), t) for p in (loss.whole, loss.details))
    torch.testing.assert_close(value, 0.5 * spatial_gap(whole, t) + 0.25 * detail_gap(details, t))


def test_tokens_are_maps(draw):
    (s,), (t,) = draw(2, 3, 2, 2, count=1), draw(2, 4, 2, 2, count=1)
    values = []
    for change in (lambda x: x, lambda x: x.flatten(2).mT):
        torch.manual_seed(0)
        loss = ScaleKD()
        loss.setup(Signals.of(change(s)), Signals.of(change(t)))
        values.append(loss(Signals.of(change(s)), Signals.of(change(t))))
    torch.testing.assert_close(*values)


def test_defaults_and_mistakes():
    loss = ScaleKD()
    assert (loss.spatial_weight, loss.frequency_weight, loss.heads, loss.softmax_scale) == (0.08, 0.06, 8, 5.0)
    with pytest.raises(ValueError, match=r"^ScaleKD\.softmax_scale must be > 0, got 0$"):
        ScaleKD(softmax_scale=0)
    with pytest.raises(ValueError, match=r"^ScaleKD\.spatial_weight must be >= 0, got -1$"):
        ScaleKD(spatial_weight=-1)
    with pytest.raises(ValueError, match=r"^ScaleKD\.frequency_weight must be >= 0, got -1$"):
        ScaleKD(frequency_weight=-1)
    with pytest.raises(ShapeMismatch, match=r"student \[1, 3, 2, 2\] and teacher \[1, 4, 2, 2\]"):
        spatial_gap(torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 2, 2))


def test_needs():
    needs = ScaleKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "space",
        False,
    )


def test_golden():
    check_parity("scalekd", "scalekd__projector")
