"""Masked generative distillation: the mask, an oracle from separate operations, reproducible draws, golden numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.losses.parity import check_parity
from torch import nn

from limbeck.errors import ShapeMismatch
from limbeck.losses.mgd import MGD, keep_mask
from limbeck.types import Signals


def made(student, teacher, **fields):
    loss = MGD(**fields)
    loss.setup(student, teacher)
    return loss


@pytest.mark.parametrize("ratio", [0.0, 0.2, 1.0])
def test_masks_drop_their_share(ratio):
    maps = torch.zeros(50, 40, 6, 5, dtype=torch.float64)
    for mask, shape in (("positions", (50, 1, 6, 5)), ("channels", (50, 40, 1, 1))):
        keep = keep_mask(maps, ratio=ratio, mask=mask)
        assert keep.shape == shape
        assert keep.dtype == torch.float64
        assert set(keep.unique().tolist()) <= {0.0, 1.0}
        assert 1 - keep.mean().item() == pytest.approx(ratio, abs=0.05 if 0 < ratio < 1 else 0)


def test_a_draw_from_zero_up_to_the_ratio_is_dropped(monkeypatch):
    draws = torch.tensor([0.0, 0.25, 0.5, 0.75]).reshape(4, 1, 1, 1)
    monkeypatch.setattr(torch, "rand", lambda *args, **options: draws)
    assert keep_mask(torch.zeros(4, 1, 1, 1), ratio=0.5, mask="positions").flatten().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("mask", ["positions", "channels"])
def test_oracle(draw, mask):
    (s,), (t,) = draw(2, 3, 4, 4, count=1), draw(2, 5, 4, 4, count=1, seed=8)
    loss = made(Signals.of(s), Signals.of(t), mask=mask, ratio=0.5)
    first, _, second = loss.generation
    torch.manual_seed(1)
    got = loss(Signals.of(s), Signals.of(t))
    torch.manual_seed(1)
    keep = keep_mask(t, ratio=0.5, mask=mask)
    assert 0 < keep.mean() < 1
    hidden = F.conv2d(F.conv2d(s, loss.align.weight, loss.align.bias) * keep, first.weight, first.bias, padding=1).relu()
    expected = (F.conv2d(hidden, second.weight, second.bias, padding=1) - t).square().sum((1, 2, 3))
    torch.testing.assert_close(got, expected)


def test_every_call_draws_and_a_restart_repeats():
    student, teacher = Signals.of(torch.randn(2, 3, 4, 4)), Signals.of(torch.randn(2, 5, 4, 4))
    loss = made(student, teacher)
    state = torch.get_rng_state()
    values = [loss(student, teacher) for _ in range(2)]
    assert not torch.equal(*values)
    torch.set_rng_state(state)
    assert torch.equal(loss(student, teacher), values[0])


def test_without_mask_it_is_a_function_of_the_example(draw):
    s, t = draw(4, 3, 4, 4)
    loss = made(Signals.of(s), Signals.of(t), ratio=0.0)
    whole = loss(Signals.of(s), Signals.of(t))
    torch.testing.assert_close(loss(Signals.of(s[1:2]), Signals.of(t[1:2])), whole[1:2])
    tokens = [torch.cat([x[:, :, 0, :1], x.flatten(2)], 2).mT for x in (s, t)]
    torch.testing.assert_close(loss(*map(Signals.of, tokens)), whole)


def test_channels_that_agree_are_not_aligned(draw):
    s, t = draw(2, 3, 4, 4)
    loss = made(Signals.of(s), Signals.of(t))
    assert isinstance(loss.align, nn.Identity)
    assert sum(p.numel() for p in loss.parameters()) == 2 * (3 * 3 * 9 + 3)
    assert made(Signals.of(s.half()), Signals.of(t)).generation[0].weight.dtype == torch.float32
    assert made(Signals.of(s), Signals.of(t[:, :2])).align.weight.dtype == torch.float64
    assert made(Signals.of(s.to("meta")), Signals.of(t.to("meta"))).generation[2].weight.is_meta


def test_autocast_does_not_touch_the_convolutions():
    s, t = torch.randn(2, 2, 3, 4, 4).unbind()
    loss = made(Signals.of(s), Signals.of(t), ratio=0.0)
    expected = loss(Signals.of(s), Signals.of(t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(Signals.of(s), Signals.of(t)), expected)


def test_it_compiles():
    student, teacher = Signals.of(torch.randn(2, 3, 4, 4)), Signals.of(torch.randn(2, 5, 4, 4))
    loss = made(student, teacher, ratio=0.0)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(student, teacher), loss(student, teacher))


def test_defaults_needs_and_mistakes():
    assert (MGD().ratio, MGD().mask) == (0.65, "positions")
    with pytest.raises(ValueError, match=r"^MGD\.ratio must be <= 1, got 2$"):
        MGD(ratio=2)
    with pytest.raises(ValueError, match=r"^MGD\.mask must be one of 'positions', 'channels', got 'rows'$"):
        MGD(mask="rows")
    needs = MGD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "space",
        False,
    )
    student, teacher = Signals.of(torch.zeros(2, 3, 4, 4)), Signals.of(torch.zeros(2, 5, 2, 2))
    with pytest.raises(ShapeMismatch, match=r"student \[2, 5, 4, 4\] and teacher \[2, 5, 2, 2\]"):
        made(student, teacher)(student, teacher)


def test_golden():
    check_parity("mgd")
