"""Dual heads: value by hand, what is learned and what is left alone, fusing and its search, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.dho import ALPHAS, BETAS, DHO, fuse, search_fusion, second_head_loss
from limbeck.losses.kd import KD
from limbeck.types import Signals


def ready(feature, logits, **fields):
    loss = DHO(**fields)
    loss.setup(Signals(logits, {"pool": feature}), Signals(logits))
    return loss.double()


def test_by_hand():
    """The head says 0 and 0, the teacher 2 log 3 and 0, at temperature 2."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]])
    got = second_head_loss(student, teacher, temperature=2.0)
    assert got.tolist() == pytest.approx([4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))])


@pytest.mark.parametrize("shape", [(3,), (5, 3), (3, 2, 4)])
def test_the_head_reads_the_mean_of_positions(draw, shape):
    (feature,), (logits, teacher) = draw(4, *shape, count=1), draw(4, 6)
    loss = ready(feature, teacher, temperature=3.0)
    pooled = feature if len(shape) == 1 else feature.mean(1) if len(shape) == 2 else feature.mean((2, 3))
    answers = pooled @ loss.head.weight.T + loss.head.bias
    torch.testing.assert_close(loss.answers(feature), answers)
    expected = KD(temperature=3.0)(Signals(answers), Signals(teacher))
    torch.testing.assert_close(loss(Signals(logits, {"pool": feature}), Signals(teacher)), expected)


def test_the_own_head_is_left_alone_and_the_second_learns(draw):
    (feature,), (logits, teacher) = draw(4, 3, count=1), draw(4, 6)
    loss = ready(feature, teacher)
    feature.requires_grad_()
    logits.requires_grad_()
    loss(Signals(logits, {"pool": feature}), Signals(teacher)).sum().backward()
    assert logits.grad is None
    assert all(x.grad.isfinite().all() and x.grad.any() for x in (feature, loss.head.weight, loss.head.bias))  # pyright: ignore[reportOptionalMemberAccess]
    assert sum(p.numel() for p in loss.parameters()) == 6 * (3 + 1)


def test_set_up_on_the_meta_device_and_for_half_precision(draw):
    loss = DHO()
    loss.setup(Signals(features={"pool": torch.zeros(2, 3, 4, 4, device="meta")}), Signals(torch.zeros(2, 5, device="meta")))
    assert loss.head.weight.shape == (5, 3)
    assert loss.head.weight.device.type == "meta"
    (feature,), (teacher,) = draw(4, 3, count=1), draw(4, 6, count=1)
    loss = ready(feature, teacher).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss.answers(feature.bfloat16())
    torch.testing.assert_close(got, loss.answers(feature.bfloat16().float()))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_low_precision_and_large_signals_are_finite(draw, scale):
    (feature,), (teacher,) = draw(4, 3, count=1), draw(4, 6, count=1)
    loss = ready(feature, teacher).float()
    for dtype in (torch.float32, torch.bfloat16):
        own = (scale * feature).to(dtype).requires_grad_()
        value = loss(Signals(teacher, {"pool": own}), Signals((scale * teacher).to(dtype)))
        value.sum().backward()
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert own.grad.isfinite().all()


@pytest.mark.slow
def test_compiles(draw):
    (feature,), (teacher,) = draw(4, 3, count=1), draw(4, 6, count=1)
    loss = ready(feature, teacher)
    student, teacher = Signals(teacher, {"pool": feature}), Signals(teacher)
    torch.testing.assert_close(torch.compile(loss, fullgraph=True)(student, teacher), loss(student, teacher))


def test_fuse_by_hand():
    """(3/4, 1/4) of the first; the second, 2 log 3 and 0, at temperature 2 (3/4, 1/4) and at 1 (9/10, 1/10)."""
    first, second = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[2 * math.log(3), 0.0]])
    assert fuse(first, second, alpha=0.25, beta=2.0).tolist()[0] == pytest.approx([1 / 16 + 9 / 16, 3 / 16 + 3 / 16])
    assert fuse(first, second, alpha=0.25, beta=1.0).tolist()[0] == pytest.approx([1 / 16 + 0.675, 3 / 16 + 0.075])
    assert fuse(first.half(), second.half(), alpha=0.5, beta=1.0).dtype == torch.float32


def test_search_takes_the_first_of_the_best():
    """The first head knows examples 0 and 1, the second 2; only together do they know all."""
    labels = torch.tensor([0, 1, 2])
    first = torch.tensor([[2.0, 0, 0], [0, 2.0, 0], [0.5, 0, 0.4]])
    second = torch.tensor([[0, 1.0, 0], [0.4, 0, 0.4], [0, 0, 6.0]])
    accuracy, alpha, beta = search_fusion(first, second, labels)
    tried = [(b, a) for b in BETAS for a in ALPHAS if (fuse(first, second, alpha=a, beta=b).argmax(-1) == labels).all()]
    assert (accuracy, beta, alpha) == (1.0, *tried[0])
    assert 0 < alpha < 1
    assert search_fusion(first, second, labels, alphas=[0.0], betas=[1.0]) == (pytest.approx(1 / 3), 0.0, 1.0)
    assert search_fusion(first, second, labels, alphas=[1.0], betas=[3.0, 1.0]) == (pytest.approx(2 / 3), 1.0, 3.0)


def test_search_that_finds_nothing():
    assert search_fusion(torch.eye(2), torch.eye(2), torch.tensor([1, 0])) == (0.0, 0.0, 1.0)


def test_grids():
    assert pytest.approx([i / 20 for i in range(21)]) == list(ALPHAS)
    assert BETAS == (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0)


def test_mistakes():
    for wrong in (lambda a, b: second_head_loss(a, b, temperature=1.0), lambda a, b: fuse(a, b, alpha=0.5, beta=1.0)):
        with pytest.raises(ShapeMismatch, match="must have the same shape here"):
            wrong(torch.zeros(1, 2), torch.zeros(1, 3))
    loss = DHO()
    with pytest.raises(SignalMissing, match="the teacher gave no logits"):
        loss.setup(Signals(features={"pool": torch.zeros(1, 2)}), Signals())
    loss = ready(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(SignalMissing, match="the teacher gave no logits"):
        loss(Signals(features={"pool": torch.zeros(1, 2).double()}), Signals())
    with pytest.raises(ValueError, match=r"^DHO\.temperature must be > 0, got 0$"):
        DHO(temperature=0)


def test_needs_and_default():
    needs = DHO().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (True, False, True, "one", "any")
    assert (needs.label_kinds, needs.global_batch) == (("class",), False)
    assert DHO().temperature == 2.0


def test_golden():
    check_parity("dho_loss", "dho_fusion")


def test_fuse_widens_half_precision(draw):
    logits, second = (x.half() for x in draw(3, 5))
    got = fuse(logits, second, alpha=0.3, beta=0.7)
    assert torch.equal(got, fuse(logits.float(), second.float(), alpha=0.3, beta=0.7))


def test_the_head_has_a_precision_of_its_own():
    feature, logits = torch.randn(2, 4), torch.randn(2, 3)
    loss = DHO()
    loss.setup(Signals(logits, {"pool": feature}), Signals(logits))
    assert torch.equal(loss.answers(feature.double()), loss.answers(feature))
