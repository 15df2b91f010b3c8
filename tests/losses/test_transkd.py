"""Transformer knowledge review: the selection by hand, an oracle from separate operations, one example, golden numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.losses.parity import check_parity
from torch import nn

from limbeck.errors import SignalMissing
from limbeck.losses.hcl import context_gap
from limbeck.losses.transkd import SelectiveFusion, TransKD
from limbeck.types import Signals


def made(student, teacher, **fields) -> Any:
    loss = TransKD(**fields)
    loss.setup(student, teacher)
    return loss


def norm(x):
    return F.batch_norm(x, None, None, training=True)


def selected(fusion, own, deeper, squeeze):
    """A softmax over two is the sigmoid of their difference."""
    hidden = squeeze((own + deeper).mean((2, 3), keepdim=True)).relu()
    share = (fusion.branches[0](hidden) - fusion.branches[1](hidden)).sigmoid()
    return share * own + (1 - share) * deeper


def test_oracle(draw):
    (s0,), (s1,) = draw(4, 3, 8, 8, count=1), draw(4, 4, 4, 4, count=1, seed=1)
    (t0,), (t1,) = draw(4, 5, 8, 8, count=1, seed=4), draw(4, 7, 2, 2, count=1, seed=5)
    student, teacher = Signals.of(s0, s1), Signals.of(t0, t1)
    loss = made(student, teacher, width=6)
    first, second = loss.review.stages
    r1 = norm(F.conv2d(s1, second.enter[0].weight))
    small = F.interpolate(r1, (2, 2))
    o1 = norm(F.conv2d(small, second.leave[0].weight, padding=1))
    own = norm(F.conv2d(s0, first.enter[0].weight))
    squeeze = lambda x: norm(F.conv2d(x, first.fusion.squeeze[0].weight))  # noqa: E731
    r0 = selected(first.fusion, own, F.interpolate(small, (8, 8)), squeeze)
    o0 = norm(F.conv2d(r0, first.leave[0].weight, padding=1))
    got = loss(student, teacher)
    assert got.shape == (4,)
    torch.testing.assert_close(got, context_gap(o0, t0) + context_gap(o1, t1))


def test_one_branch_that_wins_takes_all():
    fusion: Any = SelectiveFusion(2, torch.zeros(1), single=False)
    own, deeper = torch.randn(2, 3, 2, 4, 4).unbind()
    with torch.no_grad():
        fusion.branches[0].bias.copy_(torch.tensor([1e3, -1e3]))
    mixed = fusion(own, deeper)
    torch.testing.assert_close(mixed[:, 0], own[:, 0])
    torch.testing.assert_close(mixed[:, 1], deeper[:, 1])


@pytest.mark.parametrize(("width", "squeezed"), [(64, 32), (512, 32), (528, 33)])
def test_width_of_the_squeeze(width, squeezed):
    fusion: Any = SelectiveFusion(width, torch.zeros(1, dtype=torch.float64, device="meta"), single=True)
    assert fusion.squeeze[0].weight.shape == (squeezed, width, 1, 1)
    assert fusion.single.weight.shape == (squeezed, width, 1, 1)
    assert fusion.single.bias is None
    assert [branch.weight.shape[:2] for branch in fusion.branches] == [(width, squeezed)] * 2
    assert fusion.branches[1].weight.dtype == fusion.single.weight.dtype == torch.float64
    assert fusion.branches[1].weight.is_meta


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_one_example(variant):
    student = Signals.of(torch.randn(1, 3, 4, 4), torch.randn(1, 4, 2, 2))
    teacher = Signals.of(torch.randn(1, 5, 4, 4), torch.randn(1, 6, 2, 2))
    loss = made(student, teacher, variant=variant)
    assert loss(student, teacher).isfinite().all()
    fusion, (own, deeper) = loss.review.stages[0].fusion, torch.randn(2, 1, 64, 2, 2).unbind()
    squeeze = fusion.single if variant == "official" else lambda x: fusion.squeeze[0](x) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(fusion(own, deeper), selected(fusion, own, deeper, squeeze))


@pytest.mark.parametrize("batch", [2, 3])
def test_official_differs_for_one_example_only(batch):
    student, teacher = (Signals.of(*torch.randn(2, batch, channels, 2, 2).unbind()) for channels in (4, 5))
    paper, official = made(student, teacher), made(student, teacher, variant="official")
    official.load_state_dict(paper.state_dict(), strict=False)
    torch.testing.assert_close(paper(student, teacher), official(student, teacher))


def test_defaults_needs_and_mistakes(draw):
    assert (TransKD().width, TransKD().variant) == (64, "paper")
    with pytest.raises(ValueError, match=r"^TransKD\.width must be > 0, got 0$"):
        TransKD(width=0)
    with pytest.raises(ValueError, match=r"^TransKD\.variant must be one of 'paper', 'official', got 'zoo'$"):
        TransKD(variant="zoo")  # pyright: ignore[reportArgumentType]
    needs = TransKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "any",
        False,
    )
    student, teacher = Signals.of(*draw(3, 4, 4, 4)), Signals.of(*draw(3, 5, 4, 4, seed=8))
    loss = made(student, teacher)
    assert isinstance(loss.review.stages[1].fusion, nn.Identity)
    assert [stage.enter[0].weight.shape[:2] for stage in loss.review.stages] == [(64, 4)] * 2
    loss(student, teacher).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
    with pytest.raises(SignalMissing, match="the review was set up for 2 layers, found 1"):
        loss(Signals.of(student.features["0"]), Signals.of(teacher.features["0"]))


def test_golden():
    check_parity("transkd")
