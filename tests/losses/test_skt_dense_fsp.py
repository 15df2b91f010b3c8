"""SKT's relations between layers: an oracle by loops, pooling, invariances, messages, golden numbers."""

from __future__ import annotations

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.skt_dense_fsp import SKTDenseFSP, _ratio, layer_relations
from limbeck.types import Signals


def rows(x, ratio):
    """Channels of one map as lists: pooled by `ratio`, normalised."""
    channels = []
    for channel in x:
        height, width = channel.shape
        values = [channel[i : i + ratio, j : j + ratio].max().item() for i in range(0, height, ratio) for j in range(0, width, ratio)]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        channels.append([(v - mean) / (variance + 1e-5) ** 0.5 for v in values])
    return channels


def gram(a, b):
    return [[sum(p * q for p, q in zip(x, y, strict=True)) / len(x) for y in b] for x in a]


def test_oracle(draw):
    shapes, ratios = [(2, 5, 6), (3, 3, 3), (4, 3, 3)], [2, 1, 1]
    student = [draw(2, *shape, count=1, seed=i)[0] for i, shape in enumerate(shapes)]
    teacher = [draw(2, *shape, count=1, seed=9 + i)[0] for i, shape in enumerate(shapes)]
    got = SKTDenseFSP()(Signals.of(*student), Signals.of(*teacher))
    for b in range(2):
        total = 0.0
        layers = [[rows(x[b], r) for x, r in zip(side, ratios, strict=True)] for side in (student, teacher)]
        for i in range(3):
            for j in range(i + 1, 3):
                g, h = (gram(side[i], side[j]) for side in layers)
                total += sum((p - q) ** 2 for x, y in zip(g, h, strict=True) for p, q in zip(x, y, strict=True))
        assert got[b].item() == pytest.approx(total, rel=1e-9)


def test_pairs_in_order(draw):
    maps = [draw(2, c, 2, 2, count=1, seed=c)[0] for c in (1, 2, 3, 4)]
    assert [tuple(g.shape) for g in layer_relations(maps)] == [(2, 1, 2), (2, 1, 3), (2, 1, 4), (2, 2, 3), (2, 2, 4), (2, 3, 4)]


@pytest.mark.parametrize(
    ("size", "last", "ratio"), [(24, 3, 8), (20, 3, 8), (21, 3, 8), (10, 3, 4), (5, 3, 2), (6, 6, 1), (6, 2, 4), (15, 5, 3), (50, 10, 5)]
)
def test_ratios_are_powers_of_two_where_they_fit(size, last, ratio):
    assert _ratio(size, last) == ratio
    assert -(-size // ratio) == last


def test_level_and_scale_of_a_channel_do_not_matter(draw):
    a, b = draw(1, 3, 4, 4)
    for one, other in zip(layer_relations([a, b]), layer_relations([5 * a + 3, b]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_flat_maps_and_single_positions_are_finite():
    for shape in ((1, 2, 3, 3), (1, 2, 1, 1)):
        x = torch.ones(shape, requires_grad=True)
        value = SKTDenseFSP()(Signals.of(x, x), Signals.of(torch.randn(shape), torch.randn(shape)))
        value.sum().backward()
        assert value.isfinite().all()
        assert x.grad.isfinite().all()


def test_learns_the_width_of_the_teacher(draw):
    (s,), (t,) = draw(2, 3, 2, 2, count=1), draw(2, 5, 2, 2, count=1)
    loss = SKTDenseFSP()
    loss.setup(Signals.of(s, s), Signals.of(t, t))
    assert [tuple(p.shape) for p in loss.parameters()] == [(5, 3, 1, 1), (5,)] * 2
    (ours,) = layer_relations([project(s) for project in loss.projections])
    assert all((project(s) >= 0).all() for project in loss.projections)
    (theirs,) = layer_relations([t, t])
    torch.testing.assert_close(loss(Signals.of(s, s), Signals.of(t, t)), (ours - theirs).square().sum((1, 2)))


def test_autocast_does_not_touch_the_relations():
    s, t = torch.randn(2, 2, 4, 3, 3).unbind()
    expected = SKTDenseFSP()(Signals.of(s, s), Signals.of(t, t))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(SKTDenseFSP()(Signals.of(s, s), Signals.of(t, t)), expected)


def test_mistakes():
    x = torch.ones(1, 2, 4, 4)
    with pytest.raises(SignalMissing, match=r"^skt_dense_fsp relates layers to one another, found 1; name two or more\.$"):
        SKTDenseFSP()(Signals.of(x), Signals.of(x))
    text = r"^a map of \[1, 1\] cannot be pooled to \[4, 4\], the size of the last layer; name layers in order\.$"
    with pytest.raises(ShapeMismatch, match=text):
        SKTDenseFSP()(Signals.of(x[:, :, :1, :1], x), Signals.of(x[:, :, :1, :1], x))


def test_needs():
    needs = SKTDenseFSP().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "space",
        False,
    )


def test_golden():
    check_parity("skt_dense_fsp")
