"""Factor transfer: who learns what, an oracle through the networks, variants, golden numbers."""

from __future__ import annotations

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.ft import FT, attended_gap
from limbeck.types import Signals


def ready(student, teacher, **fields):
    torch.manual_seed(0)
    loss = FT(**fields)
    loss.setup(Signals.of(student), Signals.of(teacher))
    return loss


@pytest.mark.parametrize(("norm", "variant"), [(1.0, "paper"), (2.0, "paper"), (1.0, "official"), (2.0, "official"), (3.0, "official")])
def test_oracle(draw, norm, variant):
    (s,), (t,) = draw(3, 4, 3, 3, count=1), draw(3, 6, 3, 3, count=1, seed=7)
    loss = ready(s, t, norm=norm, variant=variant, reconstruction=0.3)
    code, ours = loss.paraphraser.encoder(t), loss.translator(s)
    rebuilt = loss.paraphraser.decoder(code)
    got = loss(Signals.of(s), Signals.of(t))
    for i in range(3):
        gap = (code[i] / code[i].square().sum().sqrt() - ours[i] / ours[i].square().sum().sqrt()).abs().pow(norm).sum()
        gap = gap / (3 * 9) if variant == "official" else gap ** (1 / norm)
        expected = gap + 0.3 * (rebuilt[i] - t[i]).square().sum() / (6 * 9)
        assert got[i].item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("norm", [1.0, 2.0])
def test_zoo_compares_maps_of_the_factors(draw, norm):
    (s,), (t,) = draw(3, 4, 3, 3, count=1), draw(3, 6, 3, 3, count=1, seed=7)
    loss = ready(s, t, norm=norm, variant="zoo", reconstruction=0)
    maps = [x.square().sum(1).flatten(1) for x in (loss.translator(s), loss.paraphraser.encoder(t))]
    ours, theirs = (x / x.norm(dim=1, keepdim=True) for x in maps)
    torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), (ours - theirs).abs().pow(norm).mean(1))


def test_attended_gap_by_hand():
    """Sums of cubes over two channels: (8 - 1, 0) to direction (1, 0), against (0, -1)."""
    student, teacher = torch.tensor([[[[2.0, 1.0]], [[-1.0, -1.0]]]]), torch.tensor([[[[0.0, -3.0]]]])
    assert attended_gap(student, teacher, power=3, norm=1).tolist() == [[1.0, 1.0]]
    assert attended_gap(teacher, student, power=3, norm=2).tolist() == [[1.0, 1.0]]
    assert attended_gap(teacher, student, power=3, norm=3).tolist() == [[-1.0, -1.0]]
    assert attended_gap(teacher, 2 * student, power=2, norm=3).sum().abs() < 1
    large = torch.zeros(1, 1, 2, 3)
    large[0, 0, 0, 0] = 1
    assert attended_gap(large, torch.tensor([[[[-5.0]]]]), power=1, norm=1).tolist() == [[2.0]]
    with pytest.raises(ShapeMismatch, match=r"^student \[1, 2\] and teacher \[1, 1\] must have the same shape"):
        attended_gap(student, teacher[..., :1], power=2, norm=1)


def test_each_network_learns_from_its_own_term(draw):
    (s,), (t,) = draw(3, 4, 3, 3, count=1), draw(3, 6, 3, 3, count=1, seed=7)
    s.requires_grad_()
    t.requires_grad_()
    frozen = ready(s, t, reconstruction=0)
    frozen(Signals.of(s), Signals.of(t)).sum().backward()
    assert all(p.grad is None for p in frozen.paraphraser.parameters())
    assert s.grad is not None
    assert t.grad is None
    assert all(p.grad is not None for p in frozen.translator.parameters())
    both, rebuilt = ready(s, t), ready(s, t)
    both(Signals.of(s), Signals.of(t)).sum().backward()
    assert t.grad is None
    (rebuilt.paraphraser.decoder(rebuilt.paraphraser.encoder(t.detach())) - t.detach()).square().mean((1, 2, 3)).sum().backward()
    for a, b in zip(both.paraphraser.parameters(), rebuilt.paraphraser.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for a, b in zip(both.translator.parameters(), frozen.translator.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(("rate", "factors"), [(0.5, 3), (1.0, 6), (0.7, 4), (0.01, 1)])
def test_networks(rate, factors):
    s, t = torch.zeros(2, 4, 3, 3), torch.zeros(2, 6, 3, 3)
    loss = ready(s, t, rate=rate)
    assert [layer.out_channels for layer in loss.translator[::3]] == [4, factors, factors]
    assert [type(layer).__name__ for layer in loss.translator] == ["Conv2d", "BatchNorm", "LeakyReLU"] * 3
    assert loss.translator[2].negative_slope == 0.1
    assert loss.paraphraser.encoder(t).shape[1] == factors
    assert loss.paraphraser.decoder(loss.paraphraser.encoder(t)).shape == t.shape


def test_precision_of_the_parts():
    s, t = torch.randn(2, 4, 3, 3, dtype=torch.float64), torch.randn(2, 6, 3, 3)
    loss = ready(s, t)
    assert loss(Signals.of(s), Signals.of(t)).dtype == torch.float64
    single = ready(s.float(), t)
    expected = single(Signals.of(s.float()), Signals.of(t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(single(Signals.of(s.float()), Signals.of(t)), expected)


def test_defaults_and_mistakes():
    loss = FT()
    assert (loss.rate, loss.norm, loss.reconstruction, loss.variant) == (0.5, 1.0, 1.0, "paper")
    with pytest.raises(ValueError, match=r"^FT\.norm must be >= 1, got 0\.5$"):
        FT(norm=0.5)
    with pytest.raises(ValueError, match=r"^FT\.rate must be > 0, got 0$"):
        FT(rate=0)
    with pytest.raises(ValueError, match=r"^FT\.reconstruction must be >= 0, got -1$"):
        FT(reconstruction=-1)
    with pytest.raises(ValueError, match=r"^FT\.variant must be one of 'paper', 'official', 'zoo', got 'mean'$"):
        FT(variant="mean")


def test_needs_and_exemptions():
    needs = FT().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "space",
        False,
    )
    assert FT.exempt == {
        "equality": "the translator and the paraphraser are other networks, so equal features have unlike factors",
        "independence": "the translator normalises over the batch while it learns",
    }


def test_golden():
    check_parity("ft", "ft_zoo", "ft_connectors")
