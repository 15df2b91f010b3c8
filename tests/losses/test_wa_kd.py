"""Distillation of old classes: value by hand, an oracle by loops, new classes are free, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.wa_kd import WAKD, old_class_cross_entropy
from limbeck.types import Signals


def test_by_hand():
    """Old classes: the teacher says 3/4 and 1/4 at temperature 2, the student the same; the new class does not matter."""
    teacher, student = torch.tensor([[2 * math.log(3), 0.0]]), torch.tensor([[2 * math.log(3), 0.0, 50.0]])
    got = old_class_cross_entropy(student, teacher, temperature=2.0)
    assert got.tolist() == pytest.approx([-0.75 * math.log(0.75) - 0.25 * math.log(0.25)])


def test_oracle(draw):
    (student,), (teacher,) = draw(4, 6, count=1), draw(4, 3, count=1, seed=8)
    got = WAKD(temperature=3.0)(Signals(student), Signals(teacher))
    for i in range(4):
        p, q = ([math.exp(z / 3) for z in x[i, :3].tolist()] for x in (teacher, student))
        assert got[i].item() == pytest.approx(-sum(a / sum(p) * math.log(b / sum(q)) for a, b in zip(p, q, strict=True)), rel=1e-9)


def test_new_classes_get_no_gradient(draw):
    (student,), (teacher,) = draw(4, 6, count=1), draw(4, 3, count=1, seed=8)
    student.requires_grad_()
    WAKD()(Signals(student), Signals(teacher)).sum().backward()
    assert not student.grad[:, 3:].any()
    assert student.grad[:, :3].any()


def test_tokens(draw):
    (student,), (teacher,) = draw(2, 2, 6, count=1), draw(2, 2, 3, count=1, seed=8)
    flat = WAKD()(Signals(student.flatten(0, 1)), Signals(teacher.flatten(0, 1)))
    torch.testing.assert_close(WAKD()(Signals(student), Signals(teacher)), flat.view(2, 2))


def test_half_precision_is_widened_first(draw):
    (student,), (teacher,) = draw(4, 6, count=1), draw(4, 3, count=1, seed=8)
    student, teacher = student.bfloat16(), teacher.bfloat16()
    expected = old_class_cross_entropy(student.float(), teacher.float(), temperature=3.0)
    assert torch.equal(old_class_cross_entropy(student, teacher, temperature=3.0), expected)


@pytest.mark.parametrize(("student", "teacher"), [((2, 3), (2, 4)), ((2, 4), (3, 4))])
def test_mismatch(student, teacher):
    text = (
        rf"^student \[{student[0]}, {student[1]}\] needs the 4 classes of the teacher \[{teacher[0]}, {teacher[1]}\] as its first ones; "
        r"check which model is the old one\.$"
    )
    with pytest.raises(ShapeMismatch, match=text):
        WAKD()(Signals(torch.zeros(student)), Signals(torch.zeros(teacher)))


def test_default_and_mistakes():
    assert WAKD().temperature == 2.0
    with pytest.raises(ValueError, match=r"^WAKD\.temperature must be > 0, got 0$"):
        WAKD(temperature=0)
    with pytest.raises(SignalMissing, match="the teacher gave no logits"):
        WAKD()(Signals(torch.zeros(1, 2)), Signals())


def test_needs():
    needs = WAKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features) == (True, False, True, "none")
    assert (needs.label_kinds, needs.global_batch) == (("class",), False)


def test_golden():
    check_parity("wa_kd")
