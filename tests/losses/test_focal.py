"""Focal loss: by hand, its limits, weights of classes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import ShapeMismatch
from limbeck.losses.focal import Focal, focal_factor
from limbeck.types import IGNORE, Signals

LABELS = torch.tensor([0, 3, 5, 2])
QUARTER = torch.tensor([[math.log(3), 0.0]])
"""Probabilities 3/4 and 1/4."""


def value(logits, labels, **fields):
    return Focal(**fields)(Signals(logits), Signals(), labels)


def test_by_hand():
    assert value(QUARTER, torch.tensor([0])).tolist() == pytest.approx([math.log(4 / 3) / 16])
    assert value(QUARTER, torch.tensor([1]), gamma=1.0).tolist() == pytest.approx([math.log(4) * 3 / 4])
    assert value(QUARTER, torch.tensor([1]), class_weights=[5, 7], gamma=0.0).tolist() == pytest.approx([7 * math.log(4)])
    smoothed = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert value(QUARTER, torch.tensor([0]), label_smoothing=0.2).tolist() == pytest.approx([smoothed / 16])


def test_without_focus_it_is_the_cross_entropy(draw):
    logits, _ = draw(4, 6)
    torch.testing.assert_close(value(logits, LABELS, gamma=0.0), F.cross_entropy(logits, LABELS, reduction="none"))
    torch.testing.assert_close(value(logits, LABELS, gamma=0.0, class_weights=[1.0] * 6), value(logits, LABELS, gamma=0.0))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_the_gradient_is_finite_where_the_label_is_certain(gamma):
    logits = torch.tensor([[1e4, 0.0], [40.0, 0.0], [-1e4, 0.0]], requires_grad=True)
    got = value(logits, torch.tensor([0, 0, 0]), gamma=gamma)
    got.sum().backward()
    assert got.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert got[0] == 0
    assert focal_factor(torch.zeros(1), gamma=gamma).tolist() == [gamma == 0]
    assert focal_factor(torch.tensor([2.0]).log(), gamma=gamma).tolist() == pytest.approx([0.5**gamma])


def test_tokens(draw):
    logits = draw(2, 3, 6)[0]
    labels = torch.tensor([[0, 1, IGNORE], [5, 4, 3]])
    got = value(logits, labels, class_weights=[1, 2, 3, 4, 5, 6])
    flat = value(logits.flatten(0, 1), labels.flatten(), class_weights=[1, 2, 3, 4, 5, 6])
    assert torch.equal(got.flatten(), flat)
    assert got[0, 2] == 0


def test_a_single_class_without_a_label():
    assert value(torch.zeros(1, 1), torch.tensor([IGNORE]), class_weights=[2]).tolist() == [0]


def test_mistakes_and_defaults():
    assert Focal(label_smoothing=1.0).label_smoothing == 1
    with pytest.raises(ValueError, match=r"^Focal\.label_smoothing must be <= 1, got 1.5$"):
        Focal(label_smoothing=1.5)
    with pytest.raises(ShapeMismatch, match=r"^focal: expected one of `class_weights` for every class, found 3 weights for 2 classes\.$"):
        value(QUARTER, torch.tensor([0]), class_weights=[1, 1, 1])
    with pytest.raises(ValueError, match=r"^Focal\.gamma must be >= 0, got -1"):
        Focal(gamma=-1.0)
    with pytest.raises(ValueError, match=r"^Focal\.class_weights\[2\] must be >= 0, got -1$"):
        Focal(class_weights=[1, 0, -1])
    loss = Focal()
    assert (loss.gamma, loss.class_weights, loss.label_smoothing, loss.teaches) == (2.0, (), 0.0, False)
    needs = loss.needs
    assert (needs.logits, needs.labels, needs.teacher, needs.label_kinds) == (True, True, False, ("class",))
