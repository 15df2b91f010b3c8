"""WSLD: value by hand, an oracle by loops, limits of the weight, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import SignalMissing
from limbeck.losses.wsld import WSLD, need_of_soft_labels
from limbeck.types import IGNORE, Signals

LABELS = torch.tensor([0, 3, 5, 2])


def test_weight_by_hand():
    """The student gives the label 1/4, the teacher 1/2: twice the cross-entropy."""
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.zeros(1, 2)
    assert need_of_soft_labels(student, teacher, torch.tensor([0])).item() == pytest.approx(1 - math.exp(-2), rel=1e-5)


def test_oracle(draw):
    student, teacher = draw(4, 6)
    got = WSLD(temperature=2.0)(Signals(student), Signals(teacher), LABELS)
    for i, y in enumerate(LABELS.tolist()):
        p, q = ([math.exp(z) for z in x[i].tolist()] for x in (teacher, student))
        weight = 1 - math.exp(-math.log(q[y] / sum(q)) / (math.log(p[y] / sum(p)) - 1e-7))
        p, q = ([math.exp(z / 2) for z in x[i].tolist()] for x in (teacher, student))
        soft = -sum(a / sum(p) * math.log(b / sum(q)) for a, b in zip(p, q, strict=True))
        assert got[i].item() == pytest.approx(weight * 4 * soft, rel=1e-9)


def test_a_student_that_is_sure_of_the_label_needs_no_soft_labels():
    sure, unsure, labels = torch.tensor([[1e3, 0.0]]), torch.zeros(1, 2), torch.tensor([0])
    assert need_of_soft_labels(sure, unsure, labels).item() == 0
    assert need_of_soft_labels(unsure, sure, labels).item() == 1
    assert need_of_soft_labels(sure, sure, labels).item() == 0
    assert need_of_soft_labels(unsure, unsure, labels).item() == pytest.approx(1 - math.exp(-1), rel=1e-5)


def test_the_small_number_counts_where_the_teacher_is_sure():
    """Student and teacher: cross-entropies near 1e-7."""
    x = torch.tensor([[-math.log(1e-7), 0.0]], dtype=torch.float64)
    assert need_of_soft_labels(x, x, torch.tensor([0])).item() == pytest.approx(1 - math.exp(-0.5), rel=1e-5)


def test_the_weight_is_a_constant_to_the_gradient(draw):
    student, teacher = draw(4, 6)
    student.requires_grad_()
    WSLD(temperature=1.0)(Signals(student), Signals(teacher), LABELS).sum().backward()
    weight = need_of_soft_labels(student, teacher, LABELS)
    assert not weight.requires_grad
    torch.testing.assert_close(student.grad, (weight[:, None] * (student.softmax(-1) - teacher.softmax(-1))).detach())


def test_unlabelled_is_zero(draw):
    student, teacher = draw(4, 6)
    labels = LABELS.clone()
    labels[1] = IGNORE
    got, full = (WSLD()(Signals(student), Signals(teacher), y) for y in (labels, LABELS))
    assert got[1] == 0
    assert torch.equal(got[[0, 2, 3]], full[[0, 2, 3]])


def test_tokens(draw):
    student, teacher = draw(2, 2, 6)
    got = WSLD()(Signals(student), Signals(teacher), LABELS.view(2, 2))
    flat = WSLD()(Signals(student.flatten(0, 1)), Signals(teacher.flatten(0, 1)), LABELS)
    torch.testing.assert_close(got, flat.view(2, 2))


def test_defaults_bounds_and_mistakes():
    assert WSLD().temperature == 4.0
    with pytest.raises(ValueError, match=r"^WSLD\.temperature must be > 0, got 0$"):
        WSLD(temperature=0)
    with pytest.raises(SignalMissing, match="this loss needs labels, and the batch has none"):
        WSLD()(Signals(torch.zeros(1, 3)), Signals(torch.zeros(1, 3)))


def test_needs():
    needs = WSLD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, True, True, "none", ("class",))


def test_golden():
    check_parity("wsld", "wsld_cls_kd")
