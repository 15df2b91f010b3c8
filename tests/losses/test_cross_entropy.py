"""Cross-entropy: value by hand, an oracle by loops, smoothing, tokens."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import SignalMissing
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.fused.measure import Measure
from limbeck.types import IGNORE, Signals

NOTHING = Signals()


def test_value_by_hand():
    """The label has probability 3/4."""
    got = CrossEntropy()(Signals(torch.tensor([[0.0, math.log(3)]])), NOTHING, torch.tensor([1]))
    torch.testing.assert_close(got, torch.tensor([math.log(4 / 3)]))


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_oracle(draw, smoothing):
    (logits,) = draw(3, 5, count=1)
    labels = [4, 0, 2]
    got = CrossEntropy(label_smoothing=smoothing)(Signals(logits), NOTHING, torch.tensor(labels))
    for i, y in enumerate(labels):
        log_p = [z - math.log(sum(math.exp(x) for x in logits[i].tolist())) for z in logits[i].tolist()]
        q = [(1 - smoothing) * (k == y) + smoothing / 5 for k in range(5)]
        assert got[i].item() == pytest.approx(-sum(a * b for a, b in zip(q, log_p, strict=True)), rel=1e-9)


def test_uniform_prediction_is_log_of_the_classes():
    torch.testing.assert_close(
        CrossEntropy(label_smoothing=0.1)(Signals(torch.zeros(2, 8)), NOTHING, torch.tensor([3, 7])), torch.full((2,), math.log(8))
    )


def test_tokens_and_missing_labels(draw):
    (logits,) = draw(2, 3, 5, count=1)
    labels = torch.tensor([[1, IGNORE, 4], [0, 2, IGNORE]])
    got = CrossEntropy(label_smoothing=0.2)(Signals(logits), NOTHING, labels)
    assert got.shape == (2, 3)
    assert got[0, 1] == 0
    assert got[1, 2] == 0
    torch.testing.assert_close(got[1, :2], CrossEntropy(label_smoothing=0.2)(Signals(logits[1, :2]), NOTHING, labels[1, :2]))


@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_half_precision_counts_in_full(shape):
    logits = torch.zeros(*shape, 3, dtype=torch.bfloat16)
    got = CrossEntropy()(Signals(logits), NOTHING, torch.zeros(shape, dtype=torch.int64))
    torch.testing.assert_close(got, torch.full(shape, math.log(3)))


def test_defaults_bounds_and_mistakes():
    assert CrossEntropy().label_smoothing == 0.0
    with pytest.raises(ValueError, match=r"^CrossEntropy\.label_smoothing must be <= 1, got 1\.5$"):
        CrossEntropy(label_smoothing=1.5)
    with pytest.raises(SignalMissing, match=r"the student gave no logits; its signals hold nothing"):
        CrossEntropy()(NOTHING, NOTHING, torch.tensor([0]))


def test_only_without_smoothing_it_is_one_of_the_fused_measures():
    assert CrossEntropy().measure == Measure()
    assert CrossEntropy(label_smoothing=0.1).measure is None
    assert CrossEntropy(label_smoothing=1.0).measure is None


def test_needs():
    needs = CrossEntropy().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, True, False, "none", ("class",))
