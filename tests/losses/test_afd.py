"""Attention-based feature distillation: energies by hand, an oracle from separate operations, the attention's limits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import SignalMissing
from limbeck.losses.afd import AFD, energy
from limbeck.types import Signals


def made(student, teacher, **fields):
    loss = AFD(**fields)
    loss.setup(student, teacher)
    return loss


def test_energy_by_hand():
    feature = torch.tensor([[[[1.0, 3.0]], [[1.0, 1.0]]]])
    assert energy(feature).tolist()[0] == pytest.approx([1 / math.sqrt(26), 5 / math.sqrt(26)])
    assert energy(feature, torch.Size((1, 1))).tolist() == [[1.0]]
    grown = energy(feature, torch.Size((1, 4)))
    expected = F.interpolate(feature, (1, 4), mode="bilinear", align_corners=False).square().mean(1).flatten(1)
    torch.testing.assert_close(grown, expected / expected.norm())
    assert energy(torch.zeros(1, 2, 2, 2)).tolist() == [[0.0] * 4]


def test_oracle(draw):
    (s0,), (s1,), (t0,) = draw(5, 3, 4, 4, count=1), draw(5, 4, 2, 2, count=1, seed=1), draw(5, 6, 2, 2, count=1, seed=2)
    student, teacher = Signals.of(s0, s1), Signals.of(t0)
    loss = made(student, teacher, width=4)
    a = loss.attention

    def norm(x):
        return F.batch_norm(x, None, None, training=True)

    q = norm(t0.mean((2, 3)) @ a.queries[0][0].weight[:, :, 0, 0].T)  # pyright: ignore[reportIndexIssue]
    keys = [norm(s.mean((2, 3)) @ a.keys[i][0].weight[:, :, 0, 0].T).relu() for i, s in enumerate((s0, s1))]  # pyright: ignore[reportIndexIssue]
    mapped = norm(torch.cat(keys) @ a.bilinear[0].weight[:, :, 0, 0].T).chunk(2)  # pyright: ignore[reportIndexIssue]
    logits = torch.stack([(m * q).sum(1) + a.teacher_places[0] @ a.student_places[i] for i, m in enumerate(mapped)], 1) / 2
    weight = logits.softmax(1)

    def phi(x):
        x = x.square().mean(1).flatten(1)
        return x / x.norm(dim=1, keepdim=True)

    gaps = [((phi(F.avg_pool2d(s0, 2)) - phi(t0)) ** 2).mean(1), ((phi(s1) - phi(t0)) ** 2).mean(1)]
    torch.testing.assert_close(loss(student, teacher), (weight * torch.stack(gaps, 1)).sum(1))


def test_attention_sums_to_one_and_every_teacher_layer_counts(draw):
    (s0,), (t0,), (t1,) = draw(5, 3, 4, 4, count=1), draw(5, 6, 2, 2, count=1, seed=2), draw(5, 2, 4, 4, count=1, seed=3)
    loss = made(Signals.of(s0), Signals.of(t0, t1), width=4)
    found = loss.attention([s0], [t0, t1])
    assert found.shape == (5, 2, 1)
    torch.testing.assert_close(found, torch.ones_like(found))
    both = loss(Signals.of(s0), Signals.of(t0, t1))
    expected = (energy(s0, t0.shape[2:]) - energy(t0)).square().mean(1) + (energy(s0) - energy(t1)).square().mean(1)
    torch.testing.assert_close(both, expected)


def test_everything_learns(draw):
    (s0,), (s1,), (t0,), (t1,) = (draw(5, c, 4, 4, count=1, seed=c) for c in (3, 4, 5, 6))
    loss = made(Signals.of(s0, s1), Signals.of(t0, t1))
    loss(Signals.of(s0, s1), Signals.of(t0, t1)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
    assert loss.attention.student_places.shape == (2, 128)


def test_places_begin_as_the_paper_says(draw):
    (s0,), (t0,) = draw(5, 3, 4, 4, count=1), draw(5, 6, 4, 4, count=1)
    places = made(Signals.of(s0, s0.clone()), Signals.of(t0), width=2000).attention.student_places
    assert places.std().item() == pytest.approx(math.sqrt(2 / 2002), rel=0.1)


def test_precision_is_kept():
    student, teacher = Signals.of(torch.randn(4, 3, 4, 4)), Signals.of(torch.randn(4, 5, 4, 4))
    loss = made(student, teacher)
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(student, teacher), expected)


def test_layers_are_needed(draw):
    (s0,) = draw(5, 3, 4, 4, count=1)
    with pytest.raises(SignalMissing, match=r"afd links layers, found 1 of the student and 0 of the teacher; name some on both sides\."):
        AFD().setup(Signals.of(s0), Signals())
    needs = AFD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "space",
        False,
    )


@pytest.mark.parametrize(("own", "size", "pooled"), [
    ((6, 2), (2, 2), True),
    ((2, 6), (2, 2), True),
    ((6, 6), (3, 2), True),
    ((6, 1), (2, 2), False),
    ((1, 6), (2, 2), False),
    ((3, 6), (4, 2), False),
    ((2, 3), (4, 6), False),
])  # fmt: skip
def test_only_what_is_larger_both_ways_is_averaged(draw, own, size, pooled):
    (x,) = draw(2, 3, *own, count=1)
    resized = F.adaptive_avg_pool2d(x, size) if pooled else F.interpolate(x, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(energy(x, torch.Size(size)), energy(resized))
