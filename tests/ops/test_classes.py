"""The label's class and the others."""

from __future__ import annotations

import torch

from limbeck.ops.classes import at_label, known_labels, without_label
from limbeck.ops.divergence import kl, log_softmax
from limbeck.types import IGNORE

LOGITS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_known_labels():
    known, index = known_labels(torch.tensor([2, IGNORE, 0]))
    assert known.tolist() == [True, False, True]
    assert index.tolist() == [2, 0, 0]


def test_at_label():
    assert at_label(LOGITS, torch.tensor([2, 0])).tolist() == [3.0, 4.0]
    assert at_label(LOGITS[None], torch.tensor([[1, 1]])).tolist() == [[2.0, 5.0]]


def test_without_label():
    got = without_label(LOGITS, torch.tensor([2, 0]))
    assert got.softmax(-1)[[0, 1], [2, 0]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(log_softmax(got)[0, :2], log_softmax(LOGITS[0, :2]))
    torch.testing.assert_close(log_softmax(got)[1, 1:], log_softmax(LOGITS[1, 1:]))


def test_labels_of_tokens():
    logits, index = LOGITS[None].expand(3, 2, 3), torch.tensor([[0, 1], [1, 2], [2, 0]])
    got = without_label(logits, index).softmax(-1)
    assert (got == 0).nonzero().tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 2], [2, 0, 2], [2, 1, 0]]


def test_the_removed_class_has_no_gradient():
    student = LOGITS.clone().requires_grad_()
    kl(without_label(LOGITS.flip(-1), torch.tensor([2, 0])), without_label(student, torch.tensor([2, 0]))).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad[[0, 1], [2, 0]].tolist() == [0.0, 0.0]
    assert student.grad[0, :2].all()
