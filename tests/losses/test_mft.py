"""Minifinetuning: the corrected teacher by hand, what it leaves as it is, defaults."""

from __future__ import annotations

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import SignalMissing
from limbeck.losses.kd import KD
from limbeck.losses.mft import MFT, corrected
from limbeck.types import Signals


def test_a_wrong_teacher_by_hand():
    """(0.6, 0.3, 0.1) with the label 1: m = 0.5 / 1.3, so that the label wins by 0.2."""
    got = corrected(torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64), torch.tensor([1]), threshold=0.2)
    m = 0.5 / (1.3 + 1e-7)
    assert got[0].tolist() == pytest.approx([0.6 * (1 - m), 0.3 * (1 - m) + m, 0.1 * (1 - m)], rel=1e-12)
    assert (got[0, 1] - got[0, 0]).item() == pytest.approx(0.2, rel=1e-6)


def test_a_right_teacher_by_hand():
    """Its label's probability is raised by 0.2, at most to 1."""
    p = torch.tensor([[0.6, 0.3, 0.1], [0.9, 0.05, 0.05], [1.0, 0.0, 0.0]], dtype=torch.float64)
    got = corrected(p, torch.tensor([0, 0, 0]), threshold=0.2)
    assert got[0].tolist() == pytest.approx([0.8, 0.15, 0.05], rel=1e-6)
    assert got[1].tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert got[2].tolist() == pytest.approx([1, 0, 0], abs=1e-12)
    exact = (0.8 - 0.6) / (0.4 + 1e-7)
    assert got[0, 0].item() == pytest.approx(0.6 * (1 - exact) + exact, rel=1e-12)


def test_the_sum_stays_one_and_the_label_wins(draw):
    (logits,) = draw(50, 6, count=1)
    labels = torch.arange(50) % 6
    got = corrected(logits.softmax(-1), labels, threshold=0.1)
    torch.testing.assert_close(got.sum(-1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(got.argmax(-1), labels)


def test_without_a_threshold_a_right_teacher_is_followed(draw):
    student, teacher = draw(4, 6)
    labels = teacher.argmax(-1)
    got = MFT(threshold=0, temperature=2.0)(Signals(student), Signals(teacher), labels)
    torch.testing.assert_close(got, KD(temperature=2.0)(Signals(student), Signals(teacher)))


def test_the_value(draw):
    student, teacher = draw(4, 6)
    labels = torch.tensor([0, 3, -100, 5])
    got = MFT(threshold=0.3, temperature=3.0)(Signals(student), Signals(teacher), labels)
    target = corrected((teacher / 3).softmax(-1), labels.clamp_min(0), threshold=0.3)
    expected = 9 * (target * (target.log() - (student / 3).log_softmax(-1))).sum(-1)
    torch.testing.assert_close(got, expected.masked_fill(labels == -100, 0))


def test_sure_models():
    """Of magnitude 1e4: no infinite value, and a gradient."""
    student = torch.tensor([[1e4, -1e4], [1e4, -1e4]], requires_grad=True)
    teacher, labels = torch.tensor([[-1e4, 1e4], [1e4, -1e4]]), torch.tensor([1, 0])
    value = MFT()(Signals(student), Signals(teacher), labels)
    assert value.tolist() == pytest.approx([2e4, 0])
    (found,) = torch.autograd.grad(value.sum(), student)
    assert found.tolist() == [[1.0, -1.0], [0.0, 0.0]]


def test_tokens_and_half_precision(draw):
    student, teacher = (x.bfloat16() for x in draw(2, 3, 5))
    labels = torch.tensor([[0, 1, 2], [4, 3, 3]])
    got = MFT()(Signals(student), Signals(teacher), labels)
    assert got.shape == (2, 3)
    assert got.dtype == torch.float32
    flat = MFT()(Signals(student.float().flatten(0, 1)), Signals(teacher.float().flatten(0, 1)), labels.flatten())
    torch.testing.assert_close(got.flatten(), flat)


def test_defaults_and_bounds():
    assert (MFT().temperature, MFT().threshold) == (1.0, 0.2)
    with pytest.raises(ValueError, match=r"^MFT\.temperature must be > 0, got 0$"):
        MFT(temperature=0)
    with pytest.raises(ValueError, match=r"^MFT\.threshold must be <= 1, got 1.1$"):
        MFT(threshold=1.1)
    with pytest.raises(SignalMissing, match="this loss needs labels"):
        MFT()(Signals(torch.zeros(4, 2)), Signals(torch.zeros(4, 2)))


def test_needs():
    needs = MFT().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, True, True, "none", ("class",))


def test_golden():
    check_parity("modelopt_mft")
