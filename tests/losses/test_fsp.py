"""Flow of the solution procedure: values by hand, an oracle by loops, pairings, pooling, memory, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.fsp import FSP, flow_gap
from limbeck.types import Signals


def oracle(first, second):
    """One example of two layers `(channels, positions)`."""
    f, g = first.tolist(), second.tolist()
    return [[sum(a * b for a, b in zip(x, y, strict=True)) / len(x) for y in g] for x in f]


def reduced(ours, theirs, variant):
    gap = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(ours, theirs, strict=True)]
    if variant == "torchdistill":
        return sum(math.hypot(*column) for column in zip(*gap, strict=True))
    total = sum(v * v for row in gap for v in row)
    return total / (len(gap) * len(gap[0])) if variant == "zoo" else total


def test_value_by_hand():
    """Flows of one channel to two, over two positions: (1*1 + 2*0, 1*1 + 2*2) / 2 against (1, 0)."""
    one, two = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 0.0]], [[1.0, 2.0]]]])
    other = torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]])
    pair = Signals.of(one, two), Signals.of(one, other)
    assert FSP()(*pair).item() == pytest.approx((0.5 - 1) ** 2 + 2.5**2)
    assert FSP(variant="zoo")(*pair).item() == pytest.approx(((0.5 - 1) ** 2 + 2.5**2) / 2)
    assert FSP(variant="torchdistill")(*pair).item() == pytest.approx(0.5 + 2.5)


@pytest.mark.parametrize("variant", ["paper", "zoo", "torchdistill"])
@pytest.mark.parametrize("widths", [(3, 2, 4, 3), (6, 7, 7, 6)])
def test_oracle(draw, variant, widths):
    """Two positions: the products are formed only for the thinner layers."""
    sides = [[draw(2, c, 1, 2, count=1, seed=seed + 10 * k)[0] for k, c in enumerate(widths)] for seed in (1, 2)]
    for pairing, joined in (("pairs", [(0, 1), (2, 3)]), ("chain", [(0, 1), (1, 2), (2, 3)])):
        got = FSP(pairing=pairing, variant=variant)(Signals.of(*sides[0]), Signals.of(*sides[1]))
        assert got.shape == (2,)
        for i in range(2):
            flat = [[x[i].flatten(1) for x in side] for side in sides]
            expected = sum(reduced(*(oracle(side[a], side[b]) for side in flat), variant) for a, b in joined)
            assert got[i].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("pooling", "pool"), [("max", F.adaptive_max_pool2d), ("average", F.adaptive_avg_pool2d)])
@pytest.mark.parametrize("sizes", [((4, 6), (2, 3)), ((2, 3), (4, 6)), ((4, 3), (2, 6)), ((4, 3), (4, 6))])
def test_the_larger_map_is_pooled(draw, pooling, pool, sizes):
    size = (min(sizes[0][0], sizes[1][0]), min(sizes[0][1], sizes[1][1]))
    layers = [(draw(2, 3, *sizes[0], seed=1)), draw(2, 4, *sizes[1], seed=2)]
    loss = FSP(pooling=pooling)
    expected = loss(*(Signals.of(*(pool(layer[i], size) for layer in layers)) for i in range(2)))
    torch.testing.assert_close(loss(*(Signals.of(*(layer[i] for layer in layers)) for i in range(2))), expected)


def test_tokens_and_vectors(draw):
    first, second = draw(2, 3, 2, 2, seed=1), draw(2, 4, 2, 2, seed=2)
    expected = FSP()(*(Signals.of(a, b) for a, b in zip(first, second, strict=True)))
    tokens = [Signals.of(a.flatten(2).mT, b) for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(FSP()(*tokens), expected)
    vectors = [Signals.of(a[:, :, 0, 0], b[:, :, 0, 0]) for a, b in zip(first, second, strict=True)]
    maps = [Signals.of(a[..., :1, :1], b[..., :1, :1]) for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(FSP()(*vectors), FSP()(*maps))


@pytest.mark.parametrize(
    ("rows", "columns", "variant", "formed"),
    [(6, 9, "paper", False), (9, 6, "paper", False), (5, 9, "paper", True), (9, 5, "paper", True), (9, 9, "zoo", True)],
)
def test_products_are_formed_only_where_they_are_small(rows, columns, variant, formed):
    (s1, t1), (s2, t2) = (torch.randn(2, 1, c, 1, 2).unbind() for c in (rows, columns))
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
        flow_gap((s1.requires_grad_(), s2.requires_grad_()), (t1, t2), pooling="max", variant=variant)
    assert (max(sizes) == rows * columns) is formed


def test_the_teacher_may_have_other_positions(draw):
    """A position without activation only changes the mean over the positions."""
    s1, s2, t1, t2 = draw(2, 9, 1, 2, count=4)
    padded = [F.pad(x, (0, 1)) * math.sqrt(3 / 2) for x in (t1, t2)]
    kwargs = {"pooling": "max", "variant": "paper"}
    torch.testing.assert_close(flow_gap((s1, s2), padded, **kwargs), flow_gap((s1, s2), (t1, t2), **kwargs))
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 9, 9\] and teacher \[2, 9, 8\] must have the same shape"):
        flow_gap((s1, s2), (t1, t2[:, :8]), **kwargs)
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 9, 9\] and teacher \[2, 8, 9\] must have the same shape"):
        flow_gap((s1, s2), (t1[:, :8], t2), **kwargs)


@pytest.mark.parametrize("variant", ["paper", "zoo", "torchdistill"])
def test_half_precision_is_widened(variant):
    s1, t1, s2, t2 = torch.randn(4, 2, 12, 2, 2).bfloat16().unbind()
    loss = FSP(variant=variant)
    got = loss(Signals.of(s1, s2), Signals.of(t1, t2))
    torch.testing.assert_close(got, loss(Signals.of(s1.float(), s2.float()), Signals.of(t1.float(), t2.float())))


def test_autocast_does_not_touch_the_products():
    s1, t1, s2, t2 = torch.randn(4, 2, 3, 2, 2).unbind()
    expected = FSP()(Signals.of(s1, s2), Signals.of(t1, t2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(FSP()(Signals.of(s1, s2), Signals.of(t1, t2)), expected)


def test_defaults_and_mistakes():
    assert (FSP().pairing, FSP().pooling, FSP().variant) == ("pairs", "max", "paper")
    with pytest.raises(ValueError, match=r"^FSP\.variant must be one of 'paper', 'zoo', 'torchdistill', got 'mean'$"):
        FSP(variant="mean")
    with pytest.raises(ValueError, match=r"^FSP\.pooling must be one of 'max', 'average', got 'min'$"):
        FSP(pooling="min")
    with pytest.raises(ValueError, match=r"^FSP\.pairing must be one of 'pairs', 'chain', got 'all'$"):
        FSP(pairing="all")
    x = torch.zeros(2, 3, 4, 4)
    for count in (1, 3):
        text = rf"^a flow needs two layers: with pairing 'pairs' name 2, 4, 6, \.\.\. layers, found {count}\.$"
        with pytest.raises(SignalMissing, match=text):
            FSP()(Signals.of(*[x] * count), Signals.of(*[x] * count))
    with pytest.raises(SignalMissing, match=r"^a flow needs two layers: with pairing 'chain' name 2 or more layers, found 1\.$"):
        FSP(pairing="chain")(Signals.of(x), Signals.of(x))
    text = r"^the flow from \[2, 3, 4, 4\] to \[2, 5, 3\] needs two maps, or as many tokens; tap other layers\.$"
    with pytest.raises(ShapeMismatch, match=text):
        FSP()(Signals.of(x, x[:, :, 0, :1].expand(2, 3, 5).mT), Signals.of(x, x))


def test_needs():
    needs = FSP().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "full",
        False,
    )
    assert FSP.exempt == {"precision": "the inner products are of fourth order: at magnitude 30 the gradient of vectors is beyond float16"}


def test_golden():
    check_parity("fsp", "fsp_torchdistill")
