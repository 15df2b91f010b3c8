"""Logit standardization: values by hand, invariances, corners, an oracle by loops, golden numbers."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import SignalMissing
from limbeck.losses.kd import KD
from limbeck.targets.logit_standardization import LogitStandardization, standardize
from limbeck.types import Signals


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("variant", "deviation"), [("paper", statistics.pstdev), ("official", statistics.stdev)])
def test_oracle(variant, deviation):
    student, teacher = logits(3, 5), logits(3, 5, seed=1)
    ours, theirs = LogitStandardization(variant=variant, epsilon=0.25)(Signals(student), Signals(teacher))
    for before, after in ((student, ours.logits), (teacher, theirs.logits)):
        for row, got in zip(before.tolist(), after.tolist(), strict=True):
            mean, spread = statistics.fmean(row), deviation(row)
            assert got == pytest.approx([(z - mean) / (spread + 0.25) for z in row], rel=1e-12)


def test_mean_and_deviation():
    got = standardize(7 + 3 * logits(2, 4, 6), epsilon=1e-7, unbiased=False)
    torch.testing.assert_close(got.mean(-1), torch.zeros(2, 4, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(got.std(-1, correction=0), torch.ones(2, 4, dtype=torch.float64), atol=1e-6, rtol=0)


def test_level_and_spread_do_not_matter():
    """The paper's aim: a student that is a scaled and shifted teacher is a perfect one."""
    teacher = logits(4, 6)
    signals = LogitStandardization()(Signals(5 - 2 + 0.3 * teacher), Signals(teacher))
    torch.testing.assert_close(KD()(*signals), torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("variant", "expected"), [("paper", 1.0), ("official", math.sqrt(0.5))])
def test_two_classes_are_always_the_same_two_numbers(variant, expected):
    ours, _ = LogitStandardization(variant=variant)(Signals(torch.tensor([[3.0, -8.0], [0.1, 0.2]])), Signals(torch.ones(2, 2)))
    torch.testing.assert_close(ours.logits, expected * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_equal_logits_give_zeros_and_a_finite_gradient(variant):
    student = torch.full((1, 4), 2.5, requires_grad=True)
    ours, theirs = LogitStandardization(variant=variant)(Signals(student), Signals(torch.zeros(1, 4)))
    assert not ours.logits.any()
    assert not theirs.logits.any()
    KD(temperature=1.0)(ours, Signals(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("unbiased", [False, True])
def test_gradient(unbiased):
    x = logits(3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: standardize(x, epsilon=0.1, unbiased=unbiased), (x,))


def test_batch_of_one_and_half_precision():
    x = (30 * logits(1, 100)).bfloat16()
    got = standardize(x, epsilon=1e-7, unbiased=False)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, standardize(x.float(), epsilon=1e-7, unbiased=False))


def test_magnitude_of_logits():
    x = logits(2, 5).float()
    torch.testing.assert_close(
        standardize(1e4 * x, epsilon=1e-7, unbiased=True), standardize(x, epsilon=1e-7, unbiased=True), rtol=1e-4, atol=1e-5
    )


def test_other_signals_stay_and_the_originals_too():
    student = Signals(logits(2, 3), features={"layer1": torch.ones(2, 4)}, extra={"index": torch.arange(2)})
    kept = student.logits.clone()
    ours, _ = LogitStandardization()(student, Signals(logits(2, 3)))
    assert torch.equal(student.logits, kept)
    assert ours.features is student.features
    assert ours.extra is student.extra


def test_defaults_bounds_and_mistakes():
    target = LogitStandardization()
    assert (target.epsilon, target.variant) == (1e-7, "paper")
    with pytest.raises(ValueError, match=r"^LogitStandardization\.epsilon must be > 0, got 0$"):
        LogitStandardization(epsilon=0)
    some, none = Signals(torch.zeros(1, 2)), Signals()
    text = "logit_standardization changes logits, and the {} gave none; remove it from this term."
    with pytest.raises(SignalMissing, match=f"^{text.format('student')}$"):
        target(none, some)
    with pytest.raises(SignalMissing, match=f"^{text.format('teacher')}$"):
        target(some, none)


def test_golden():
    check_parity("logit_std", "logit_std_dkd")
