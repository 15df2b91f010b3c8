"""Binary cross-entropy: value by hand, an oracle by loops, missing labels."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.losses.bce import BCE
from limbeck.types import Signals

NOTHING = Signals()


def test_value_by_hand():
    """Probabilities 3/4 and 1/2, the first label present, the second absent; the mean over the two."""
    got = BCE()(Signals(torch.tensor([[math.log(3), 0.0]])), NOTHING, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(got, torch.tensor([(math.log(4 / 3) + math.log(2)) / 2]))


def test_oracle_with_soft_targets(draw):
    (logits,) = draw(3, 4, count=1)
    labels = torch.linspace(0, 1, 12, dtype=torch.float64).view(3, 4)
    got = BCE()(Signals(logits), NOTHING, labels)
    for i in range(3):
        terms = []
        for z, y in zip(logits[i].tolist(), labels[i].tolist(), strict=True):
            p = 1 / (1 + math.exp(-z))
            terms.append(-y * math.log(p) - (1 - y) * math.log(1 - p))
        assert got[i].item() == pytest.approx(sum(terms) / 4, rel=1e-9)


def test_gradient(draw):
    (logits,) = draw(3, 4, count=1)
    logits.requires_grad_()
    labels = torch.ones(3, 4, dtype=torch.float64)
    BCE()(Signals(logits), NOTHING, labels).sum().backward()
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - 1) / 4)


def test_one_missing_label_counts_as_fitted(draw):
    (logits,) = draw(2, 4, count=1)
    labels = torch.tensor([[1.0, 0.0, float("nan"), 1.0], [0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    got = BCE()(Signals(logits), NOTHING, labels)
    kept = BCE()(Signals(logits[:1, [0, 1, 3]]), NOTHING, labels[:1, [0, 1, 3]])
    torch.testing.assert_close(got[0], kept[0] * 3 / 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_labels_of_half_precision_count_in_full(dtype):
    """1 - y is not rounded to half precision."""
    y = torch.tensor([[0.1]], dtype=dtype)
    got = BCE()(Signals(torch.tensor([[20.0]], dtype=dtype)), NOTHING, y)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx((1 - y.item()) * 20 + math.log1p(math.exp(-20)), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_half_precision_are_widened_first(dtype):
    z = torch.tensor([[0.3, -1.7]], dtype=dtype)
    expected = sum(math.log1p(math.exp(value)) for value in z[0].tolist()) / 2
    assert BCE()(Signals(z), NOTHING, torch.zeros(1, 2)).item() == pytest.approx(expected, rel=1e-6)


def test_shapes_must_agree():
    with pytest.raises(ShapeMismatch, match=r"outputs \[2, 4\] and labels \[2\]"):
        BCE()(Signals(torch.zeros(2, 4)), NOTHING, torch.zeros(2))


def test_needs():
    needs = BCE().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, True, False, "none", ("multilabel",))
