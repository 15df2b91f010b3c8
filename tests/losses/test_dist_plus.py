"""DIST+: an oracle by loops, the sign of the channel relation, layouts, golden numbers."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Literal

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.dist import DIST
from limbeck.losses.dist_plus import DISTPlus
from limbeck.types import Signals


def signals(logits: torch.Tensor, features: torch.Tensor) -> Signals:
    return Signals(logits, {"layer": features})


def oracle(student: torch.Tensor, teacher: torch.Tensor) -> tuple[float, float]:
    """Mean channel correlation and mean spatial correlation of two maps, by loops."""
    batch, channels, height, width = student.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    across = [statistics.correlation(student[i, :, y, x].tolist(), teacher[i, :, y, x].tolist()) for i in range(batch) for y, x in places]
    sums = [[[sum(f[i, c, y, x].item() for c in range(channels)) for i in range(batch)] for f in (student, teacher)] for y, x in places]
    return statistics.fmean(across), statistics.fmean(statistics.correlation(a, b) for a, b in sums)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_oracle(draw, variant):
    (ours, theirs), (student, teacher) = draw(4, 5), draw(4, 3, 2, 3, seed=5)
    loss = DISTPlus(beta=0.3, gamma=0.7, iota=0.11, kappa=0.13, temperature=2.0, variant=variant)
    got = loss(signals(ours, student), signals(theirs, teacher))
    channels, positions = oracle(student, teacher)
    channels = channels if variant == "official" else 1 - channels
    predictions = DIST(beta=0.3, gamma=0.7, temperature=2.0)(Signals(ours), Signals(theirs)).item()
    assert got.item() == pytest.approx(predictions + 0.11 * channels + 0.13 * (1 - positions), rel=1e-6)


def test_equal_models(draw):
    """The public code adds the correlation of the channels where the others are 1 less it."""
    logits, features = draw(4, 5)[0], draw(4, 3, 2, 3)[0]
    values = [
        DISTPlus(iota=0.7, variant=v)(signals(logits, features), signals(logits.clone(), features.clone())).item()
        for v in ("paper", "official")
    ]
    assert values[0] == 0
    assert values[1] == pytest.approx(0.7, abs=1e-6)


def test_gradient_pulls_the_channels_together(draw):
    """A step along the gradient of each variant, away from equality: one returns, the other departs further."""
    logits, features = draw(4, 5)[0], draw(4, 3, 2, 3)[0]
    signs: dict[Literal["paper", "official"], int] = {"paper": 1, "official": -1}
    for variant, sign in signs.items():
        moved = (features + 0.3 * draw(4, 3, 2, 3, seed=9)[0]).requires_grad_()
        loss = DISTPlus(kappa=0.0, variant=variant)
        loss(signals(logits, moved), signals(logits, features)).backward()
        after = moved.detach() - 0.1 * moved.grad
        before, then = (DISTPlus(kappa=0.0)(signals(logits, x), signals(logits, features)).item() for x in (moved.detach(), after))
        assert sign * (before - then) > 0


def test_the_guards_of_the_public_code():
    """Lengths are clamped one by one for positions and predictions, the channels' product has the number added."""
    x = 1e-5 * torch.tensor([[[[1.0]], [[-1.0]]], [[[3.0]], [[-2.0]]]], dtype=torch.float64)
    y = 1e-5 * torch.tensor([[[[1.0]], [[0.0]]], [[[-2.0]], [[-3.0]]]], dtype=torch.float64)
    flat = torch.zeros(2, 2, dtype=torch.float64)
    loss = partial(DISTPlus, beta=0.0, gamma=0.0, variant="official")
    across = [1e-10 / (1e-10 + 1e-8), 2.5e-10 / (2.5e-10 + 1e-8)]
    got = loss(iota=1.0, kappa=0.0)(signals(flat, x), signals(flat, y))
    assert got.item() == pytest.approx(statistics.fmean(across), rel=1e-9)
    got = loss(iota=0.0, kappa=1.0)(signals(flat, x), signals(flat, y))
    assert got.item() == pytest.approx(2, rel=1e-9)
    short = loss(iota=0.0, kappa=1.0)(signals(flat, 1e-4 * x), signals(flat, y))
    assert short.item() == pytest.approx(1 + 1e-9 / 1e-8 / 2**0.5, rel=1e-6)


def test_tokens_and_vectors(draw):
    logits = draw(4, 5)
    student, teacher = draw(4, 6, 3)
    maps = (x.mT.reshape(4, 3, 2, 3) for x in (student, teacher))
    got = DISTPlus()(signals(logits[0], student), signals(logits[1], teacher))
    torch.testing.assert_close(got, DISTPlus()(*(signals(z, x) for z, x in zip(logits, maps, strict=True))))
    got = DISTPlus()(signals(logits[0], student[:, 0]), signals(logits[1], teacher[:, 0]))
    torch.testing.assert_close(got, DISTPlus()(signals(logits[0], student[:, :1]), signals(logits[1], teacher[:, :1])))


def test_half_precision_is_summed_in_float32(draw):
    logits, maps = (x.half() for x in draw(4, 5)), (x.half() for x in draw(4, 64, 2, 3))
    (ours, theirs), (student, teacher) = logits, maps
    got = DISTPlus()(signals(ours, student), signals(theirs, teacher))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, DISTPlus()(signals(ours.float(), student.float()), signals(theirs.float(), teacher.float())))


def test_defaults_bounds_and_mistakes(draw):
    loss = DISTPlus()
    assert (loss.beta, loss.gamma, loss.iota, loss.kappa, loss.temperature, loss.variant) == (1.0, 1.0, 1.0, 1.0, 1.0, "paper")
    for field in ("beta", "gamma", "iota", "kappa"):
        with pytest.raises(ValueError, match=rf"^DISTPlus\.{field} must be >= 0, got -1$"):
            DISTPlus(**{field: -1})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^DISTPlus\.temperature must be > 0, got 0$"):
        DISTPlus(temperature=0)
    ours, theirs = draw(4, 5)
    with pytest.raises(ShapeMismatch, match=r"student \[4, 2\] and teacher \[4, 3\] must have the same shape"):
        loss(signals(ours, torch.zeros(4, 2)), signals(theirs, torch.zeros(4, 3)))


def test_needs():
    needs = DISTPlus().needs
    assert (needs.logits, needs.features, needs.match, needs.label_kinds, needs.global_batch) == (True, "one", "full", ("class",), True)


def test_golden():
    check_parity("dist_plus")


def test_says_who_gave_no_logits(draw):
    (x,) = draw(2, 3, count=1)
    with pytest.raises(SignalMissing, match=r"^the teacher gave no logits"):
        DISTPlus()(Signals(x, {"a": x}), Signals.of(x))
