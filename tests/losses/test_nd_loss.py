"""Norm and direction: value by hand, an oracle by loops, the paper's limits, class means over batches, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.nd_loss import NDLoss, norm_direction
from limbeck.types import IGNORE, Head, Signals


def ready(channels, classes=3, dtype=torch.float64):
    loss = NDLoss()
    teacher = Signals(features={"a": torch.zeros(2, channels, dtype=dtype)}, head=Head(torch.zeros(classes, 5)))
    loss.setup(teacher, teacher)
    return loss


def test_value_by_hand():
    """The student is shorter than the teacher, then longer; its part along (3, 4) / 5 counts."""
    means = torch.tensor([[3.0, 4.0], [0.0, 7.0]])
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 6.0]]), torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    got = norm_direction(student, teacher, torch.tensor([0, 1]), means=means)
    torch.testing.assert_close(got, torch.tensor([1 - 0.6 / 2, 1 - 6 / 6]))


def test_oracle(draw):
    (s,), (t,), (c,) = draw(6, 4, count=1), draw(6, 4, count=1, seed=5), draw(3, 4, count=1, seed=6)
    labels = torch.tensor([0, 2, 1, 1, 0, 2])
    got = norm_direction(s, t, labels, means=c)
    for i in range(6):
        mean = c[labels[i]].tolist()
        along = sum(a * b for a, b in zip(s[i].tolist(), mean, strict=True)) / math.hypot(*mean)
        expected = 1 - along / max(math.hypot(*s[i].tolist()), math.hypot(*t[i].tolist()))
        assert got[i].item() == pytest.approx(expected, rel=1e-12)


def test_is_zero_along_the_class_mean_once_it_is_as_long_as_the_teacher(draw):
    (t,), (c,) = draw(2, 4, count=1), draw(1, 4, count=1, seed=6)
    for factor in (1.0, 3.0):
        student = c / c.norm() * t.norm(dim=1, keepdim=True) * factor
        assert norm_direction(student, t, torch.tensor([0, 0]), means=c).abs().max() < 1e-12


def test_a_longer_student_is_not_lengthened_further(draw):
    """Where s is the longer one only its direction counts, so the gradient is at a right angle to it; else it pulls along the mean."""
    t, (c,) = torch.tensor([[1.0, 2.0, 2.0, 4.0]], dtype=torch.float64), draw(1, 4, count=1, seed=6)  # of length 5 in any order
    label = torch.tensor([0])
    for factor, along in ((2.0, True), (1.0, True), (0.5, False)):
        student = (t.flip(1) * factor).requires_grad_()
        norm_direction(student, t, label, means=c).sum().backward()
        assert ((student.grad * student).sum().abs() < 1e-12) == along  # pyright: ignore[reportOptionalOperand]
        if not along:
            torch.testing.assert_close(student.grad, -c / c.norm() / t.norm())


def test_zeros_and_missing_labels_are_finite():
    student = torch.zeros(3, 2, requires_grad=True)
    teacher = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    got = norm_direction(student, teacher, torch.tensor([0, 1, IGNORE]), means=torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    got.sum().backward()
    assert got.tolist() == [1, 1, 0]
    assert student.grad.isfinite().all()  # pyright: ignore[reportOptionalMemberAccess]
    assert not student.grad[2].any()  # pyright: ignore[reportOptionalSubscript]


def test_one_class_and_one_label(draw):
    """Nothing is looked up for an example without a label, and one with a label is a mean of its own."""
    s, t = draw(2, 3)
    labels = torch.tensor([IGNORE, 0])
    assert norm_direction(s, t, labels, means=t[1:])[0] == 0
    loss = ready(3, classes=1)
    value = loss(Signals.of(s), Signals.of(t), labels)
    torch.testing.assert_close(value, norm_direction(s[1:], t[1:], labels[1:], means=t[1:])[0])
    loss.observe(torch.ones(1, 3).bfloat16(), torch.tensor([0]))
    torch.testing.assert_close(loss.means, (t[1:] + 1) / 2)


def test_means_are_those_of_all_batches_so_far(draw):
    a, b = draw(4, 3)
    loss = ready(3)
    loss.observe(a, torch.tensor([0, 0, 2, IGNORE]))
    torch.testing.assert_close(loss.means, torch.stack([(a[0] + a[1]) / 2, torch.zeros(3, dtype=torch.float64), a[2]]))
    loss.observe(b, torch.tensor([2, 0, 2, 2]))
    assert loss.seen.tolist() == [3, 0, 4]
    torch.testing.assert_close(loss.means[0], (a[0] + a[1] + b[1]) / 3)
    torch.testing.assert_close(loss.means[2], (a[2] + b[0] + b[2] + b[3]) / 4)


def test_the_batch_itself_counts_and_only_in_training(draw):
    s, t = draw(4, 3)
    labels = torch.tensor([0, 1, 1, IGNORE])
    loss = ready(3)
    value = loss(Signals.of(s), Signals.of(t), labels)
    means = torch.stack([t[0], (t[1] + t[2]) / 2])
    torch.testing.assert_close(value, norm_direction(s, t, labels, means=means).sum() / 3)
    kept = loss.means.clone()
    loss.eval()(Signals.of(t), Signals.of(s), labels)
    assert torch.equal(loss.means, kept)
    assert set(loss.state_dict()) == {"means", "seen"}
    assert not list(loss.parameters())


def test_maps_and_tokens_are_averaged(draw):
    s, t = draw(2, 3, 2, 2)
    labels = torch.tensor([0, 1])
    flat = ready(3)(Signals.of(s.mean((2, 3))), Signals.of(t.mean((2, 3))), labels)
    torch.testing.assert_close(ready(3)(Signals.of(s), Signals.of(t), labels), flat)
    tokens = [x.flatten(2).mT for x in (s, t)]
    torch.testing.assert_close(ready(3)(*map(Signals.of, tokens), labels), flat)


def test_a_batch_without_labels_is_zero(draw):
    s, t = draw(2, 3)
    s.requires_grad_()
    loss = ready(3)
    value = loss(Signals.of(s), Signals.of(t), torch.tensor([IGNORE, IGNORE]))
    value.backward()
    assert value.item() == 0
    assert not s.grad.any()
    assert not loss.means.any()


def test_state_keeps_the_width_of_the_teacher():
    assert ready(3).means.dtype == torch.float64
    assert ready(3, dtype=torch.bfloat16).means.dtype == torch.float32
    loss = ready(3, dtype=torch.bfloat16)
    value = loss(Signals.of(torch.ones(2, 3).bfloat16()), Signals.of(torch.ones(2, 3).bfloat16()), torch.tensor([0, 1]))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_mistakes():
    with pytest.raises(ShapeMismatch, match=r"student \[2, 3\] and teacher \[2, 4\]"):
        norm_direction(torch.zeros(2, 3), torch.zeros(2, 4), torch.tensor([0, 0]), means=torch.zeros(1, 4))
    with pytest.raises(SignalMissing, match="this loss needs labels"):
        ready(3)(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 3)))
    with pytest.raises(SignalMissing, match="classifier of the teacher"):
        NDLoss().setup(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 3)))


def test_needs():
    needs = NDLoss().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch, needs.head, needs.label_kinds) == (
        False,
        True,
        True,
        "one",
        "full",
        True,
        "teacher",
        ("class",),
    )


def test_golden():
    check_parity("nd_loss")


def test_the_means_have_no_gradient(draw):
    (teacher,) = draw(2, 4, count=1)
    loss = ready(4)
    loss.observe(teacher.requires_grad_(), torch.tensor([0, 1]))
    assert loss.means.any()
    assert not loss.means.requires_grad
