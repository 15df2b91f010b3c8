"""Distillation of regression: values by hand, the bound, missing labels."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.mse import MSE
from limbeck.losses.regression_kd import RegressionKD, teacher_bounded
from limbeck.types import Signals

STUDENT = torch.tensor([[1.0, 5.0], [0.0, 0.0]])
TEACHER = torch.tensor([[3.0, 4.0], [1.0, -1.5]])


def test_distances_by_hand():
    signals = Signals(STUDENT), Signals(TEACHER)
    assert RegressionKD(form="l2")(*signals).tolist() == [5.0, 3.25]
    assert RegressionKD(form="l1")(*signals).tolist() == [3.0, 2.5]


def test_l2_is_the_summed_mse(draw):
    student, teacher = draw(4, 3)
    signals = Signals(student), Signals(teacher)
    torch.testing.assert_close(RegressionKD(form="l2")(*signals), MSE()(*signals) * signals[0].logits.shape[1])


def test_bound_by_hand():
    """The first student errs by 4 + 1 and its teacher by 1 + 4; then 25 against 20, 20 against 25."""
    student = torch.tensor([[2.0, 1.0], [3.0, 4.0], [2.0, 4.0]])
    teacher = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 4.0]])
    signals, labels = (Signals(student), Signals(teacher)), torch.zeros(3, 2)
    assert RegressionKD()(*signals, labels).tolist() == [0.0, 25.0, 0.0]
    assert RegressionKD(margin=0.5)(*signals, labels).tolist() == [5.0, 25.0, 0.0]
    assert RegressionKD(margin=5.0)(*signals, labels).tolist() == [5.0, 25.0, 0.0]
    assert RegressionKD(margin=5.5)(*signals, labels).tolist() == [5.0, 25.0, 20.0]


def test_the_gradient_is_that_of_the_labels_until_the_teacher_is_reached(draw):
    student, teacher, labels = draw(6, 3, count=3)
    student.requires_grad_()
    teacher_bounded(student, teacher, labels, margin=0.0).sum().backward()
    worse = (student - labels).square().sum(1) > (teacher - labels).square().sum(1)
    assert 0 < worse.sum() < 6
    torch.testing.assert_close(student.grad, (2 * (student - labels) * worse[:, None]).detach())


def test_missing_labels_count_as_fitted():
    nan = float("nan")
    student = torch.tensor([[2.0, 7.0], [3.0, 3.0]], requires_grad=True)
    teacher, labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, nan], [nan, nan]])
    value = RegressionKD(margin=1.0)(Signals(student), Signals(teacher), labels)
    assert value.tolist() == [4.0, 0.0]
    value.sum().backward()
    assert student.grad is not None
    assert student.grad.tolist() == [[4.0, 0.0], [0.0, 0.0]]


def test_one_output_takes_labels_without_a_dimension():
    student, teacher = torch.tensor([[2.0], [0.5]]), torch.tensor([[1.0], [1.0]])
    got = RegressionKD()(Signals(student), Signals(teacher), torch.zeros(2, dtype=torch.float64))
    assert got.tolist() == [4.0, 0.0]
    assert RegressionKD()(Signals(student), Signals(teacher), torch.zeros(2, 1)).tolist() == [4.0, 0.0]
    assert got.dtype == torch.float32


@pytest.mark.parametrize("form", ["l1", "l2", "bounded"])
def test_half_precision_is_widened(form):
    student, teacher, labels = torch.tensor([[300.0, 1.0]]).half(), torch.tensor([[-0.5, 2.0]]).half(), torch.zeros(1, 2).half()
    got = RegressionKD(form=form)(Signals(student), Signals(teacher), labels)
    assert got.dtype == torch.float32
    assert got.item() == {"l1": 301.5, "l2": 300.5**2 + 1, "bounded": 90001.0}[form]


def test_labels_are_not_rounded_to_half_precision():
    labels, student = torch.tensor([[0.1]]), torch.zeros(1, 1)
    got = RegressionKD(margin=1.0)(Signals(student.half()), Signals(student.half()), labels)
    assert torch.equal(got, labels.square().sum(1))


def test_defaults_bounds_and_mistakes():
    assert (RegressionKD().form, RegressionKD().margin) == ("bounded", 0.0)
    with pytest.raises(ValueError, match=r"^RegressionKD\.margin must be >= 0, got -1$"):
        RegressionKD(margin=-1)
    signals = Signals(STUDENT), Signals(TEACHER)
    with pytest.raises(SignalMissing, match="this loss needs labels, and the batch has none"):
        RegressionKD()(*signals)
    with pytest.raises(ShapeMismatch, match=r"outputs \[2, 2\] and labels \[2\] must have the same shape"):
        RegressionKD()(*signals, torch.zeros(2))
    with pytest.raises(ShapeMismatch, match=r"outputs \[2, 1\] and labels \[2, 2\] must have the same shape"):
        RegressionKD()(Signals(STUDENT[:, :1]), Signals(TEACHER[:, :1]), torch.zeros(2, 2))


def test_needs():
    for form in ("l1", "l2", "bounded"):
        needs = RegressionKD(form=form).needs
        assert (needs.logits, needs.labels, needs.teacher, needs.label_kinds) == (True, form == "bounded", True, ("real",))
