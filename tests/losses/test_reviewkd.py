"""Knowledge review: the fusion by hand, an oracle from separate operations, width, layouts, golden numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.losses.parity import check_parity
from torch import nn

from limbeck.errors import SignalMissing
from limbeck.losses.hcl import context_gap
from limbeck.losses.reviewkd import AttentionFusion, ReviewKD
from limbeck.types import Signals


def made(student, teacher, **fields):
    loss = ReviewKD(**fields)
    loss.setup(student, teacher)
    return loss


def test_fusion_by_hand():
    fusion = AttentionFusion(1, torch.zeros(1))
    with torch.no_grad():
        fusion.attention.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1))
        fusion.attention.bias.copy_(torch.tensor([0.0, 1.0]))
    own, deeper = torch.tensor([[[[2.0]]]]), torch.tensor([[[[3.0]]]])
    expected = 2 * torch.tensor(2.0).sigmoid() + 3 * torch.tensor(1 - 3.0).sigmoid()
    assert fusion(own, deeper).item() == pytest.approx(expected.item())
    assert AttentionFusion(1, own.double()).attention.weight.dtype == torch.float64
    assert AttentionFusion(1, own.to("meta")).attention.weight.device.type == "meta"


def test_oracle(draw):
    """Three layers, the deepest a vector, the shallowest of another size than the teacher's."""
    (s0,), (s1,), (s2,) = draw(4, 3, 8, 8, count=1), draw(4, 4, 4, 4, count=1, seed=1), draw(4, 6, count=1, seed=2)
    (t0,), (t1,), (t2,) = draw(4, 5, 4, 4, count=1, seed=4), draw(4, 7, 4, 4, count=1, seed=5), draw(4, 9, count=1, seed=6)
    student, teacher = Signals.of(s0, s1, s2), Signals.of(t0, t1, t2)
    loss = made(student, teacher)
    stages = loss.review.stages

    def norm(x):
        return F.batch_norm(x, None, None, training=True)

    r2 = norm(F.conv2d(s2[:, :, None, None], stages[2].enter[0].weight))
    o2 = norm(F.conv2d(r2, stages[2].leave[0].weight, padding=1))

    def fuse(stage, own, deeper):
        attention = torch.sigmoid(F.conv2d(torch.cat([own, deeper], 1), stage.fusion.attention.weight, stage.fusion.attention.bias))
        return own * attention[:, :1] + deeper * attention[:, 1:]

    r1 = fuse(stages[1], norm(F.conv2d(s1, stages[1].enter[0].weight)), r2.expand(-1, -1, 4, 4))
    o1 = norm(F.conv2d(r1, stages[1].leave[0].weight, padding=1))
    large = r1.repeat_interleave(2, 2).repeat_interleave(2, 3)
    r0 = fuse(stages[0], norm(F.conv2d(s0, stages[0].enter[0].weight)), large)[:, :, ::2, ::2]  # the nearest pixels
    o0 = norm(F.conv2d(r0, stages[0].leave[0].weight, padding=1))
    expected = context_gap(o0, t0) + context_gap(o1, t1) + context_gap(o2[:, :, 0, 0], t2)
    torch.testing.assert_close(loss(student, teacher), expected)


def test_width_is_that_of_the_deepest_layer_unless_it_is_bounded(draw):
    student, teacher = Signals.of(*(x[0] for x in (draw(2, 3, 4, 4), draw(2, 6, 2, 2)))), Signals.of(*draw(2, 5, 2, 2))
    assert [stage.enter[0].weight.shape[:2] for stage in made(student, teacher).review.stages] == [(6, 3), (6, 6)]
    assert [stage.leave[0].weight.shape[:2] for stage in made(student, teacher, width=4).review.stages] == [(5, 4), (5, 4)]
    assert isinstance(made(student, teacher).review.stages[1].fusion, nn.Identity)
    assert isinstance(made(student, teacher).review.stages[0].fusion, AttentionFusion)


def test_one_example_is_finite():
    student, teacher = Signals.of(torch.randn(1, 3, 2, 2), torch.randn(1, 4)), Signals.of(torch.randn(1, 5, 2, 2), torch.randn(1, 6))
    assert made(student, teacher)(student, teacher).isfinite().all()


def test_parameters_learn_and_are_the_losss_own(draw):
    student, teacher = Signals.of(*draw(3, 4, 4, 4)), Signals.of(*draw(3, 5, 4, 4, seed=8))
    loss = made(student, teacher)
    loss(student, teacher).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
    assert len(list(loss.parameters())) == 2 * 6 + 2


def test_defaults_needs_and_mistakes(draw):
    assert ReviewKD().width == 512
    with pytest.raises(ValueError, match=r"^ReviewKD\.width must be > 0, got 0$"):
        ReviewKD(width=0)
    needs = ReviewKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "any",
        False,
    )
    student, teacher = Signals.of(*draw(3, 4, 4, 4)), Signals.of(*draw(3, 5, 4, 4, seed=8))
    with pytest.raises(SignalMissing, match="features come in pairs, found 2 of the student"):
        made(student, Signals.of(teacher.features["0"]))


def test_golden():
    check_parity("reviewkd")
