"""Class attention transfer: value by hand, an oracle by loops, invariances, golden formula of the code."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.cat_kd import CATKD, class_attention
from limbeck.types import Head, Signals


def signals(feature, weight, bias=None):
    return Signals(features={"layer": feature}, head=Head(weight, bias))


def test_value_by_hand():
    """Two classes over two by two regions. Class 0: student on region 0, teacher on region 3. Class 1: the same up to its strength."""
    student = signals(torch.tensor([[[[1.0, 0.0], [0.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]]]), torch.eye(2))
    teacher = signals(torch.tensor([[[[2.0, 4.0], [6.0, 8.0]], [[0.0, 0.0], [0.0, 5.0]]]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert CATKD()(student, teacher).tolist() == pytest.approx([2 / 2])
    assert CATKD(variant="official")(student, teacher).tolist() == pytest.approx([2 / 2 / 4])


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("resolution", [1, 2, 4])
def test_oracle(draw, variant, resolution):
    (f,), (g,), (v,), (w,) = (draw(*shape, count=1, seed=i) for i, shape in enumerate([(2, 3, 8, 8), (2, 5, 4, 4), (6, 3), (6, 5)]))
    got = CATKD(resolution=resolution, variant=variant)(signals(f, v), signals(g, w))
    assert got.shape == (2,)

    def regions(feature, weight, c):
        step = feature.shape[-1] // resolution
        cam = sum(weight[c, k] * feature[k] for k in range(len(feature)))
        values = []
        for i in range(resolution):
            for j in range(resolution):
                part = [cam[i * step + a, j * step + b].item() for a in range(step) for b in range(step)]
                values.append(sum(part) / len(part))
        return [value / math.hypot(*values) for value in values]

    for n in range(2):
        total = sum((a - b) ** 2 for c in range(6) for a, b in zip(regions(f[n], v, c), regions(g[n], w, c), strict=True))
        expected = total / 6 / (resolution**2 if variant == "official" else 1)
        assert got[n].item() == pytest.approx(expected, rel=1e-9)


def test_strength_and_offset_of_classes_do_not_count(draw):
    (f,), (g,), (w,) = draw(2, 3, 4, 4, count=1), draw(2, 3, 4, 4, count=1, seed=5), draw(6, 3, count=1, seed=6)
    strength = torch.linspace(0.5, 3, 6, dtype=torch.float64)[:, None]
    expected = CATKD()(signals(f, w), signals(g, w))
    torch.testing.assert_close(CATKD()(signals(f, strength * w, strength[:, 0]), signals(2 * g, w)), expected)


def test_tokens_are_a_grid(draw):
    (f,), (w,) = draw(2, 3, 4, 4, count=1), draw(6, 3, count=1, seed=6)
    tokens = torch.cat([f[:, :, :1, 0], f.flatten(2)], 2).mT
    head = Head(w)
    torch.testing.assert_close(class_attention(tokens, head, resolution=2), class_attention(f, head, resolution=2))


def test_many_classes_and_dead_maps():
    feature = torch.zeros(1, 4, 4, 4, requires_grad=True)
    value = CATKD()(signals(feature, torch.randn(100_000, 4)), signals(torch.randn(1, 4, 4, 4), torch.randn(100_000, 4)))
    value.sum().backward()
    assert value.item() == pytest.approx(1.0, rel=1e-4)
    assert feature.grad.isfinite().all()


def test_the_students_classifier_learns_too(draw):
    (f,), (g,), (w,) = draw(2, 3, 4, 4, count=1), draw(2, 3, 4, 4, count=1, seed=5), draw(6, 3, count=1, seed=6)
    weight = w.clone().requires_grad_()
    CATKD()(signals(f, weight), signals(g, w)).sum().backward()
    assert weight.grad.abs().max() > 0


def test_autocast_and_half_precision_do_not_touch_the_products():
    f, w = torch.randn(2, 3, 4, 4), torch.randn(6, 3)
    expected = class_attention(f, Head(w), resolution=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(class_attention(f, Head(w), resolution=2), expected)
    half = class_attention(f.bfloat16(), Head(w.bfloat16()), resolution=2)
    torch.testing.assert_close(half, class_attention(f.bfloat16().float(), Head(w.bfloat16().float()), resolution=2))
    assert class_attention(f.double(), Head(w), resolution=2).dtype == torch.float64


def test_defaults_needs_and_mistakes():
    assert (CATKD().resolution, CATKD().variant) == (2, "paper")
    with pytest.raises(ValueError, match=r"^CATKD\.resolution must be > 0, got 0$"):
        CATKD(resolution=0)
    with pytest.raises(ValueError, match=r"^CATKD\.variant must be one of 'paper', 'official', got 'zoo'$"):
        CATKD(variant="zoo")
    needs = CATKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.head, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "space",
        "both",
        False,
    )
    assert needs.label_kinds == ("class",)
    good = signals(torch.zeros(2, 3, 4, 4), torch.zeros(5, 3))
    text = r"^the classifier reads 4 channels, the feature \[2, 3, 4, 4\] has 3; name the last layer before the pooling\.$"
    with pytest.raises(ShapeMismatch, match=text):
        CATKD()(signals(torch.zeros(2, 3, 4, 4), torch.zeros(5, 4)), good)
    with pytest.raises(ShapeMismatch, match=r"student \[2, 6, 4\] and teacher \[2, 5, 4\]"):
        CATKD()(signals(torch.zeros(2, 3, 4, 4), torch.zeros(6, 3)), good)
    with pytest.raises(SignalMissing, match="this loss needs the classifier of the student"):
        CATKD()(Signals.of(torch.zeros(2, 3, 4, 4)), good)
    with pytest.raises(SignalMissing, match="this loss needs the classifier of the teacher"):
        CATKD()(good, Signals.of(torch.zeros(2, 3, 4, 4)))
