"""Inter-channel correlation: value by hand, an oracle by loops, invariances, memory, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.errors import ShapeMismatch
from limbeck.losses.ickd import ICKD, _row_scaled, channel_gap
from limbeck.types import Signals


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def oracle(student, teacher, variant):
    """One example `(channels, positions)` of each."""

    def rows(x):
        x = x.tolist()
        gram = [[sum(p * q for p, q in zip(a, b, strict=True)) for b in x] for a in x]
        return [[value / (math.hypot(*row) or 1) if variant == "official" else value for value in row] for row in gram]

    s, t = rows(student), rows(teacher)
    c = len(s)
    return sum((s[i][j] - t[i][j]) ** 2 for i in range(c) for j in range(c)) / (c if variant == "official" else c * c)


def test_value_by_hand():
    """Inner products [[1, 0], [0, 4]] against [[1, 1], [1, 1]]; with rows of length 1 [[1, 0], [0, 1]] against those / sqrt 2."""
    student = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
    teacher = torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]])
    assert ICKD()(Signals.of(student), Signals.of(teacher)).item() == pytest.approx((0 + 1 + 1 + 9) / 4)
    row = (1 - math.sqrt(0.5)) ** 2 + 0.5
    assert ICKD(variant="official")(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(2 * row / 2)


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("shape", [(3, 2, 2), (12, 2, 2), (14, 1, 3)])
def test_oracle(draw, variant, shape):
    (s1, s2), (t1, t2) = ([0.03 * x for x in draw(2, *shape, seed=seed)] for seed in (1, 2))
    got = ICKD(variant=variant)(Signals.of(s1, s2), Signals.of(t1, t2))
    assert got.shape == (2,)
    for i in range(2):
        expected = oracle(s1[i].flatten(1), t1[i].flatten(1), variant) + oracle(s2[i].flatten(1), t2[i].flatten(1), variant)
        assert got[i].item() == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_tokens_and_vectors_are_maps(draw, variant):
    s, t = draw(2, 4, 2, 3)
    tokens = [x.flatten(2).transpose(1, 2) for x in (s, t)]
    loss = ICKD(variant=variant)
    torch.testing.assert_close(loss(*map(Signals.of, tokens)), loss(Signals.of(s), Signals.of(t)))
    vectors = [x[:, :, 0, 0] for x in (s, t)]
    torch.testing.assert_close(loss(*map(Signals.of, vectors)), loss(*(Signals.of(x[:, :, :1, :1]) for x in (s, t))))


@pytest.mark.parametrize("normalise", [True, False])
def test_the_number_of_positions_may_differ(draw, normalise):
    (s,), (t,) = draw(2, 9, 1, 2, count=1), draw(2, 9, 1, 3, count=1, seed=8)
    padded = torch.cat([s, torch.zeros_like(s[..., :1])], -1)  # a position without activation adds nothing to inner products
    torch.testing.assert_close(channel_gap(s, t, normalise=normalise), channel_gap(padded, t, normalise=normalise))


def test_where_channels_are_active_does_not_count(draw):
    s, t = draw(3, 4, 3, 3)
    loss = ICKD(variant="official")
    torch.testing.assert_close(loss(Signals.of(5 * s.flip(2, 3)), Signals.of(t)), loss(Signals.of(s), Signals.of(t)))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("channels", "formed"), [(15, False), (14, True)])
def test_products_are_formed_only_where_they_are_small(normalise, channels, formed):
    s, t = torch.randn(2, 2, channels, 5).unbind()
    with Largest() as largest:
        channel_gap(s.mT, t.mT, normalise=normalise)
    assert largest.numel == 2 * channels * (channels if formed else 5)


@pytest.mark.parametrize("size", [2, 40])
def test_dead_channels_are_finite(size):
    student, teacher = torch.zeros(1, size, 2, 2, requires_grad=True), torch.ones(1, size, 2, 2)
    value = ICKD(variant="official")(Signals.of(student), Signals.of(teacher))
    value.sum().backward()
    assert value.item() == pytest.approx(1.0)
    assert student.grad.isfinite().all()


def test_rounding_does_not_shorten_rows():
    """A faint channel at a right angle to all others: its row keeps at least the length of its own entry."""
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
        strong = torch.randn(11, 2, generator=generator) * 1e3 @ turn[:2]
        channels = torch.cat([strong, 1e-3 * turn[2:]])[None]
        lengths = _row_scaled(channels).norm(dim=-1) * channels.norm(dim=-1)
        assert (lengths <= 1 + 1e-5).all()


def test_half_precision_of_the_official_variant():
    for dtype in (torch.bfloat16, torch.float16):
        for scale in (1.0, 30.0):
            s, t = ((torch.randn(2, 2, 12, 3) * scale).to(dtype)).unbind()
            s.requires_grad_()
            for ours, theirs in ((s, t), (s.unsqueeze(-1), t.unsqueeze(-1))):
                for variant in ("official", "paper"):
                    expected = ICKD(variant=variant)(Signals.of(ours.float()), Signals.of(theirs.float()))
                    torch.testing.assert_close(ICKD(variant=variant)(Signals.of(ours), Signals.of(theirs)), expected)
            ICKD(variant="official")(Signals.of(s), Signals.of(t)).sum().backward()
            assert s.grad.isfinite().all()


@pytest.mark.parametrize("channels", [4, 20])
def test_autocast_does_not_touch_the_products(channels):
    s, t = torch.randn(2, 2, channels, 2, 2).unbind()
    expected = channel_gap(s, t, normalise=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(channel_gap(s, t, normalise=True), expected)


def test_defaults_and_mistakes():
    assert ICKD().variant == "paper"
    with pytest.raises(ValueError, match=r"^ICKD\.variant must be one of 'paper', 'official', got 'mean'$"):
        ICKD(variant="mean")
    text = r"^student \[2, 3, 4, 4\] and teacher \[2, 5, 2, 2\] must have as many channels here; let an adapter map the student's channels "
    with pytest.raises(ShapeMismatch, match=text + r"onto the teacher's\.$"):
        ICKD()(Signals.of(torch.zeros(2, 3, 4, 4)), Signals.of(torch.zeros(2, 5, 2, 2)))


def test_needs():
    needs = ICKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "full",
        False,
    )


def test_golden():
    check_parity("ickd", "ickd_chsim")
