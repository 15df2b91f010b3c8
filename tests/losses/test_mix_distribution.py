"""MixDistribution contrast: value by hand, statistics, draws, limiting cases."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.losses.mix_distribution import MixDistribution, mixed_statistics, own_among_all
from limbeck.types import Signals


def ready(feature, **fields):
    torch.manual_seed(0)
    loss = MixDistribution(**fields)
    loss.setup(Signals.of(feature), Signals())
    return loss.to(feature.dtype)


def test_statistics_by_hand():
    """Mean 2 and deviation 1 become, half and half with mean 10 and deviation 3, mean 6 and deviation 2."""
    feature = torch.tensor([[[1.0, 3.0]], [[7.0, 13.0]]]).double()
    got = mixed_statistics(feature, torch.tensor([1, 0]), torch.tensor([0.5, 1.0]).double())
    torch.testing.assert_close(got, torch.tensor([[[4.0, 8.0]], [[7.0, 13.0]]]).double(), rtol=1e-5, atol=1e-5)
    swapped = mixed_statistics(feature, torch.tensor([1, 0]), torch.zeros(2).double())
    torch.testing.assert_close(swapped, feature.flip(0), rtol=1e-5, atol=1e-5)


def test_each_channel_has_statistics_of_its_own():
    feature = torch.randn(3, 4, 9, dtype=torch.float64)
    partner, share = torch.tensor([2, 0, 1]), torch.tensor([0.2, 0.5, 0.9]).double()
    mixed = mixed_statistics(feature, partner, share)
    part = share[:, None]
    for measure in (lambda x: x.mean(2), lambda x: x.std(2, unbiased=False)):
        expected = part * measure(feature) + (1 - part) * measure(feature)[partner]
        torch.testing.assert_close(measure(mixed), expected, rtol=1e-4, atol=1e-5)


def test_a_constant_feature_has_no_deviation_to_divide_by():
    feature = torch.ones(2, 3, 4, requires_grad=True)
    mixed = mixed_statistics(feature, torch.tensor([1, 0]), torch.tensor([0.3, 0.3]))
    mixed.sum().backward()
    assert torch.isfinite(mixed).all()
    assert feature.grad is not None
    assert torch.isfinite(feature.grad).all()


def test_contrast_by_hand():
    """Own similarity 1, the other 0, at temperature 1/2: log(1 + e^-2)."""
    unit = torch.eye(2)
    assert own_among_all(unit, unit, temperature=0.5).tolist() == pytest.approx([math.log1p(math.exp(-2))] * 2)
    assert own_among_all(unit, unit.flip(0), temperature=0.5).tolist() == pytest.approx([math.log1p(math.exp(2))] * 2)
    assert own_among_all(unit, torch.stack([unit[0], unit[0]]), temperature=1.0).tolist() == pytest.approx([math.log(2)] * 2)


def test_oracle(draw):
    (feature,) = draw(5, 3, 2, 2, count=1)
    loss = ready(feature, temperature=0.3, dim=7)
    partner, share = loss.drawn(5)
    flat = feature.flatten(2)
    mixed = mixed_statistics(flat, partner, share)
    first, second = ([loss.outer(torch.relu(loss.inner(x.T)).mean(0)) for x in side] for side in (flat, mixed))
    expected = 0.0
    for i in range(5):
        scores = [math.exp(torch.cosine_similarity(first[i], other, dim=0).item() / 0.3) for other in second]
        expected -= math.log(scores[i] / sum(scores)) / 5
    assert loss(Signals.of(feature), Signals()).item() == pytest.approx(expected, rel=1e-6)


def test_draws_are_of_the_update_and_never_oneself(draw):
    (feature,) = draw(6, 3, 4, 4, count=1)
    loss = ready(feature)
    partner, share = loss.drawn(200)
    assert not (partner == torch.arange(200)).any()
    assert 0 <= float(share.min()) < 0.1 < 0.9 < float(share.max()) <= 1
    assert abs(float(share.mean()) - 0.5) < 0.1
    before = loss.drawn(6)
    loss.eval()(Signals.of(feature), Signals())
    assert all(torch.equal(a, b) for a, b in zip(before, loss.drawn(6), strict=True))
    loss.train()(Signals.of(feature), Signals())
    assert int(loss.draws) == 1
    assert not torch.equal(before[1], loss.drawn(6)[1])
    assert "draws" in loss.state_dict()


def test_alone_there_is_nothing_to_tell_apart(draw):
    (feature,) = draw(1, 3, 4, 4, count=1)
    feature.requires_grad_()
    value = ready(feature)(Signals.of(feature), Signals())
    value.backward()
    assert value.item() == 0


def test_half_precision_is_widened():
    feature = torch.randn(4, 3, 4, 4).bfloat16()
    torch.manual_seed(0)
    loss = MixDistribution()
    loss.setup(Signals.of(feature), Signals())
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(Signals.of(feature), Signals()).dtype == torch.float32


def test_it_can_be_learned():
    torch.manual_seed(1)
    feature = torch.randn(16, 8, 3, 3)
    loss = ready(feature)
    first = loss(Signals.of(feature), Signals()).item()
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(Signals.of(feature), Signals())
        value.backward()
        optimizer.step()
    assert loss(Signals.of(feature), Signals()).item() < first / 2


def test_defaults_and_needs():
    loss = MixDistribution()
    assert (loss.temperature, loss.dim, loss.teaches) == (0.1, 128, True)
    needs = loss.needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        False,
        "one",
        "any",
        True,
    )
    with pytest.raises(ValueError, match=r"^MixDistribution\.temperature must be > 0, got 0"):
        MixDistribution(temperature=0.0)


@pytest.mark.parametrize(
    ("draws", "partners", "shares"),
    [
        (0, [3, 3, 4, 4, 3], [0.583525686, 0.902219977, 0.801773527, 0.665279948, 0.874122269]),
        (3, [1, 0, 1, 1, 0], [0.585295627, 0.298487713, 0.605638529, 0.472077483, 0.298414427]),
    ],
)
def test_draws_stay_what_they_are(draws, partners, shares):
    """A run that goes on, or is repeated on another machine, meets the same partners."""
    loss = MixDistribution()
    loss.draws = torch.tensor(draws)
    partner, share = loss.drawn(5)
    assert partner.tolist() == partners
    assert share.tolist() == pytest.approx(shares, abs=1e-9)
    assert share.dtype == torch.float64


def test_two_are_enough_and_half_precision_is_widened(draw):
    (feature,) = draw(2, 3, 4, 4, count=1)
    loss = ready(feature.float())
    value = loss.eval()(Signals.of(feature.bfloat16()), Signals())
    assert value.item() > 0
    torch.testing.assert_close(value, loss(Signals.of(feature.bfloat16().float()), Signals()))
