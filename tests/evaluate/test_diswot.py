"""DisWOT's score against its formula, autograd and limiting cases; the authors' numbers are parity cases."""

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import ShapeMismatch
from limbeck.evaluate.diswot import Glance, classifier_gradient, diswot, relation_distance, semantic_distance


def _rows(x):
    return x / x.norm(dim=-1, keepdim=True)


def _glance(seed, *, batch=6, channels=5, classes=4, side=3):
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, channels, side, side, generator=g)
    weight = torch.randn(classes, channels, generator=g)
    pooled = features.flatten(2).mean(2)
    labels = torch.arange(batch) % classes
    return Glance(features, classifier_gradient(pooled, pooled @ weight.T, labels))


def test_the_gradient_is_that_of_autograd():
    pooled, labels = torch.randn(7, 5), torch.tensor([0, 3, 1, 1, 2, 0, 3])
    weight, bias = torch.randn(4, 5, requires_grad=True), torch.randn(4)
    logits = pooled @ weight.T + bias
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, labels), weight)
    assert torch.allclose(classifier_gradient(pooled, logits.detach(), labels), expected, atol=1e-6)


def test_both_distances_are_the_formulas():
    student, teacher = _glance(0), _glance(1, channels=5, side=2)
    s, t = (x.features.flatten(1) for x in (student, teacher))
    relation = (_rows(t @ t.T) - _rows(s @ s.T)).square().sum() / 36
    outer = [_rows(g[:, :, None] * g[:, None, :]) for g in (teacher.gradient, student.gradient)]
    semantic = (outer[0] - outer[1]).square().sum() / 20
    found = diswot(student, teacher)
    assert found.relation == pytest.approx(relation.item(), rel=1e-5)
    assert found.semantic == pytest.approx(semantic.item(), rel=1e-5)
    assert found.score == pytest.approx(-(relation + semantic).item(), rel=1e-5)
    assert found.by == "channels"


def test_the_script_takes_the_channels_of_the_first_example():
    student, teacher = _glance(0), _glance(1)
    s, t = (x.features[0].flatten(1) for x in (student, teacher))
    expected = (_rows(t @ t.T) - _rows(s @ s.T)).square().sum() / 25
    assert diswot(student, teacher, variant="official").relation == pytest.approx(expected.item(), rel=1e-5)


def test_the_teacher_suits_itself_best():
    teacher = _glance(1)
    assert diswot(teacher, teacher).score == 0
    assert diswot(_glance(2), teacher).score < 0


def test_scale_does_not_count():
    student, teacher = _glance(0), _glance(1)
    louder = Glance(student.features * 3, student.gradient * 5)
    assert diswot(louder, teacher).score == pytest.approx(diswot(student, teacher).score, rel=1e-5)


def test_other_widths_are_compared_by_classes():
    student, teacher = _glance(0, channels=3), _glance(1)
    found = diswot(student, teacher)
    gs, gt = student.gradient, teacher.gradient
    expected = (_rows(gt @ gt.T) - _rows(gs @ gs.T)).square().sum() / 16
    assert found.by == "classes"
    assert found.semantic == pytest.approx(expected.item(), rel=1e-5)
    same = diswot(_glance(0), teacher, by="classes")
    assert same.by == "classes"
    assert same.semantic != diswot(_glance(0), teacher).semantic


def test_a_class_without_gradient_counts_as_zeros():
    gradient = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    other = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    # n of the outer product of (1, 0) has one row of length 1, the zeros none: squared distance 1, over 2 classes and 2 channels.
    assert semantic_distance(gradient, other) == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relation_distance(torch.ones(3, 2), torch.ones(4, 2)), "compares as many examples, found 3 and 4"),
        (lambda: relation_distance(torch.ones(3, 2), torch.ones(3, 4), variant="official"), "as many channels, found 2 and 4"),
        (lambda: semantic_distance(torch.ones(3, 2), torch.ones(4, 2)), "compare the same classes, found 3 and 4"),
        (lambda: semantic_distance(torch.ones(3, 2), torch.ones(3, 5)), "must have as many channels"),
        (lambda: classifier_gradient(torch.ones(3, 2), torch.ones(4, 2), torch.zeros(3)), r"found \(3, 2\), \(4, 2\) and \(3,\)"),
        (lambda: classifier_gradient(torch.ones(3, 2, 2), torch.ones(3, 2), torch.zeros(3)), r"needs \(batch, channels\)"),
    ],
)
def test_what_does_not_belong_together_is_refused(call, message):
    with pytest.raises(ShapeMismatch, match=message):
        call()
