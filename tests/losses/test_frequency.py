"""Frequency mimicking: Parseval, bands, norms, the filtered maps as oracle."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.losses.frequency import Frequency, band_gap
from limbeck.ops.dct import dct2, frequencies, idct2
from limbeck.types import Signals


def filtered(x, keep):
    """The maps of which only the coefficients where `keep(frequency)` holds are left."""
    return idct2(dct2(x) * keep(frequencies(*x.shape[2:], x)))


def test_all_frequencies_are_the_squared_error(draw):
    s, t = draw(2, 3, 4, 5)
    expected = (s - t).square().sum((1, 2, 3)) / 20
    torch.testing.assert_close(Frequency()(Signals.of(s), Signals.of(t)), expected)


def test_details_are_all_but_the_mean(draw):
    s, t = draw(2, 3, 4, 5)
    centred = [x - x.mean((2, 3), keepdim=True) for x in (s, t)]
    expected = (centred[0] - centred[1]).square().sum((1, 2, 3)) / 20
    loss = Frequency(band="details")
    torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)
    torch.testing.assert_close(loss(Signals.of(s + 7), Signals.of(t)), expected)


@pytest.mark.parametrize("cutoff", [0.0, 0.25, 0.5, 1.0])
def test_low_and_high_split_the_error(draw, cutoff):
    s, t = draw(2, 3, 4, 4)
    low, high = (Frequency(band=band, cutoff=cutoff)(Signals.of(s), Signals.of(t)) for band in ("low", "high"))
    torch.testing.assert_close(low + high, Frequency()(Signals.of(s), Signals.of(t)))
    expected = filtered(s - t, lambda f: f <= cutoff).square().sum((1, 2, 3)) / 16
    torch.testing.assert_close(low, expected)
    if cutoff == 0:
        torch.testing.assert_close(low, (s - t).mean((2, 3)).square().sum(1))
    if cutoff == 1:
        assert not high.any()


def test_norms(draw):
    s, t = draw(2, 3, 2, 2)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (s, t)]
    torch.testing.assert_close(Frequency(norm="position")(Signals.of(s), Signals.of(t)), Frequency()(*map(Signals.of, unit)))
    unit = [x / x.norm(dim=(2, 3), keepdim=True) for x in (s, t)]
    torch.testing.assert_close(Frequency(norm="channel")(Signals.of(s), Signals.of(t)), Frequency()(*map(Signals.of, unit)))


def test_layers_add_up_and_tokens_are_maps(draw):
    s, t = draw(2, 3, 2, 2)
    one = Frequency(band="details")(Signals.of(s), Signals.of(t))
    torch.testing.assert_close(Frequency(band="details")(Signals.of(s, s), Signals.of(t, t)), 2 * one)
    tokens = [x.flatten(2).mT for x in (s, t)]
    torch.testing.assert_close(Frequency(band="details")(*map(Signals.of, tokens)), one)


def test_learns_the_width_of_the_teacher(draw):
    (s,), (t,) = draw(2, 3, 2, 2, count=1), draw(2, 5, 2, 2, count=1)
    loss = Frequency(band="low")
    loss.setup(Signals.of(s), Signals.of(t))
    assert [tuple(p.shape) for p in loss.parameters()] == [(5, 3, 1, 1), (5,)]
    mapped = loss.projections[0](s)
    assert (mapped < 0).any()
    expected = band_gap(mapped, t, band="low", cutoff=0.25, norm="none")
    torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)


def test_defaults_and_mistakes():
    assert (Frequency().band, Frequency().cutoff, Frequency().norm) == ("all", 0.25, "none")
    with pytest.raises(ValueError, match=r"^Frequency\.cutoff must be <= 1, got 2$"):
        Frequency(cutoff=2)
    with pytest.raises(ShapeMismatch, match=r"student \[1, 3, 2, 2\] and teacher \[1, 3, 1, 1\]"):
        Frequency()(Signals.of(torch.zeros(1, 3, 2, 2)), Signals.of(torch.zeros(1, 3, 1, 1)))


def test_needs():
    needs = Frequency().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "space",
        False,
    )
