"""Knowledge translation: an oracle through the networks, who learns what, golden numbers."""

from __future__ import annotations

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.kta import KTA
from limbeck.types import Signals


def ready(student, teacher, **fields):
    torch.manual_seed(0)
    loss = KTA(**fields)
    loss.setup(Signals.of(student), Signals.of(teacher))
    return loss


@pytest.mark.parametrize(("p", "q"), [(1.0, 2.0), (2.0, 3.0)])
def test_oracle(draw, p, q):
    (s,), (t,) = draw(3, 4, 3, 3, count=1), draw(3, 6, 3, 3, count=1, seed=7)
    loss = ready(s, t, p=p, q=q, reconstruction=0.3, sparsity=0.5)
    code, ours = loss.translator.encoder(t), loss.adapter(s)
    rebuilt = loss.translator.decoder(code)
    got = loss(Signals.of(s), Signals.of(t))
    for i in range(3):
        a, b = (x[i].abs().pow(q).sum().pow(1 / q) for x in (ours, code))
        gap = (ours[i] / a - code[i] / b).abs().pow(p).sum().pow(1 / p)
        own = ((rebuilt[i] - t[i]).square().sum() + 0.5 * code[i].abs().sum()) / 54
        assert got[i].item() == pytest.approx((gap + 0.3 * own).item(), rel=1e-9)


def test_a_batch_of_one(draw):
    (s,), (t,) = draw(1, 4, 3, 3, count=1), draw(1, 6, 3, 3, count=1, seed=7)
    loss = ready(s, t)
    rebuilt = loss.translator.decoder(loss.translator.encoder(t))
    gap = ready(s, t, reconstruction=0)(Signals.of(s), Signals.of(t))
    expected = gap + (rebuilt - t).square().mean() + 1e-7 * loss.translator.encoder(t).abs().sum() / 54
    torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected, rtol=1e-9, atol=0)


def test_each_network_learns_from_its_own_term(draw):
    (s,), (t,) = draw(3, 4, 3, 3, count=1), draw(3, 6, 3, 3, count=1, seed=7)
    s.requires_grad_()
    t.requires_grad_()
    frozen = ready(s, t, reconstruction=0)
    frozen(Signals.of(s), Signals.of(t)).sum().backward()
    assert all(p.grad is None for p in frozen.translator.parameters())
    assert (s.grad is not None, t.grad is None) == (True, True)
    both = ready(s, t)
    both(Signals.of(s), Signals.of(t)).sum().backward()
    assert all(p.grad.any() for p in both.translator.parameters())
    assert t.grad is None
    for a, b in zip(both.adapter.parameters(), frozen.adapter.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(("rate", "code"), [(0.5, 3), (1.0, 6), (0.7, 4), (0.01, 1)])
def test_networks(rate, code):
    s, t = torch.zeros(2, 4, 3, 3), torch.zeros(2, 6, 3, 3)
    loss = ready(s, t, rate=rate)
    assert [type(layer).__name__ for layer in loss.adapter] == ["Conv2d", "BatchNorm", "ReLU"]
    assert loss.adapter(s).shape == (2, code, 3, 3) == loss.translator.encoder(t).shape
    assert loss.translator.decoder(loss.translator.encoder(t)).shape == t.shape


def test_precision():
    s, t = torch.randn(2, 4, 3, 3), torch.randn(2, 6, 3, 3)
    assert ready(s.double(), t)(Signals.of(s.double()), Signals.of(t)).dtype == torch.float64
    loss = ready(s, t)
    expected = loss(Signals.of(s), Signals.of(t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)


def test_defaults_needs_and_exemptions():
    loss = KTA()
    assert (loss.p, loss.q, loss.rate, loss.reconstruction, loss.sparsity) == (1.0, 2.0, 0.5, 1.0, 1e-7)
    with pytest.raises(ValueError, match=r"^KTA\.p must be >= 1, got 0\.5$"):
        KTA(p=0.5)
    with pytest.raises(ValueError, match=r"^KTA\.q must be >= 1, got 0\.5$"):
        KTA(q=0.5)
    for field, bound, value in (("rate", "> 0", 0), ("reconstruction", ">= 0", -1), ("sparsity", ">= 0", -1)):
        with pytest.raises(ValueError, match=rf"^KTA\.{field} must be {bound}, got {value}$"):
            KTA(**{field: value})
    needs = loss.needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "space",
        False,
    )
    assert KTA.exempt == {
        "equality": "the student's adapter and the teacher's encoder are other networks, so equal features have unlike codes",
        "independence": "the student's adapter normalises over the batch while it learns",
    }


def test_golden():
    check_parity("kta")
