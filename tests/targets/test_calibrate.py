"""FerKD's calibration: what is left out, replaced and kept, at the limits and between them."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import SignalMissing
from limbeck.targets.calibrate import Calibrate, confidence, smoothed
from limbeck.types import IGNORE, Signals

PROBABILITIES = torch.tensor(
    [
        [0.12, 0.11, 0.11, 0.11, 0.11, 0.11, 0.11, 0.11, 0.11],
        [0.25, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05],
        [0.5, 0.1, 0.1, 0.1, 0.1, 0.05, 0.03, 0.01, 0.01],
        [0.96, 0.005, 0.005, 0.005, 0.005, 0.005, 0.005, 0.005, 0.005],
    ]
)
LABELS = torch.tensor([1, 2, 3, 4])
TEACHER = Signals(PROBABILITIES.log())
STUDENT = Signals(torch.zeros(4, 9))


def test_confidence_is_the_largest_probability():
    torch.testing.assert_close(confidence(3 + PROBABILITIES.log()), PROBABILITIES[:, 0])
    assert confidence(PROBABILITIES.log().half()).dtype == torch.float32


def test_too_hard_and_too_easy_are_left_out():
    assert Calibrate().weights(STUDENT, TEACHER, LABELS).tolist() == [0, 1, 1, 1]
    assert Calibrate().weights(STUDENT, TEACHER, LABELS).dtype == torch.float32
    assert Calibrate(easy=0.95).weights(STUDENT, TEACHER, LABELS).tolist() == [0, 1, 1, 0]
    assert Calibrate(low=0.0).weights(STUDENT, TEACHER, None).tolist() == [1, 1, 1, 1]


def test_limits_themselves_are_kept():
    exact = Signals(torch.tensor([[0.5, 0.25, 0.25]]).log().double())
    top = float(confidence(exact.logits))
    assert Calibrate(low=top, hard=top, easy=top).weights(STUDENT, exact, None).tolist() == [1]
    _, theirs = Calibrate(low=0.1, hard=top)(STUDENT, exact, torch.tensor([2]))
    assert torch.equal(theirs.logits, exact.logits)


def test_the_unsure_are_replaced_by_the_smoothed_truth():
    ours, theirs = Calibrate(label_smoothing=0.18)(STUDENT, TEACHER, LABELS)
    assert ours is STUDENT
    found = theirs.logits.softmax(1)
    truth = torch.full((9,), 0.02)
    truth[2] = 0.84
    torch.testing.assert_close(found[1], truth)
    assert torch.equal(theirs.logits[2:], TEACHER.logits[2:])


def test_half_precision_stays():
    _, theirs = Calibrate()(STUDENT, Signals(TEACHER.logits.bfloat16()), LABELS)
    assert theirs.logits.dtype == torch.bfloat16


def test_without_a_label_the_soft_label_stays():
    labels = torch.tensor([1, IGNORE, 3, 4])
    _, theirs = Calibrate()(STUDENT, TEACHER, labels)
    assert torch.equal(theirs.logits[1:], TEACHER.logits[1:])
    assert Calibrate()(STUDENT, TEACHER) == (STUDENT, TEACHER)


def test_smoothed_labels_by_hand():
    hard = smoothed(torch.tensor([1, IGNORE]), 4, label_smoothing=0.0)
    torch.testing.assert_close(hard.softmax(1)[0], torch.tensor([0.0, 1, 0, 0]))
    assert hard.isfinite().all()
    assert smoothed(torch.tensor([IGNORE]), 1, label_smoothing=0.0).tolist() == [[0]]
    torch.testing.assert_close(smoothed(torch.tensor([3]), 4, label_smoothing=0.4).exp(), torch.tensor([[0.1, 0.1, 0.1, 0.7]]))


def test_defaults_and_refusals():
    assert (Calibrate().low, Calibrate().hard, Calibrate().easy, Calibrate().label_smoothing) == (0.15, 0.3, 1.0, 0.1)
    assert Calibrate.weighs
    assert Calibrate.reads_labels
    with pytest.raises(ValueError, match=r"calibrate: expected low <= hard <= easy, found 0\.4, 0\.3, 1\.0"):
        Calibrate(low=0.4)
    with pytest.raises(ValueError, match=r"^Calibrate\.low must be >= 0, got -0\.1$"):
        Calibrate(low=-0.1)
    with pytest.raises(ValueError, match="low <= hard <= easy"):
        Calibrate(easy=0.2)
    with pytest.raises(SignalMissing, match="calibrate judges the teacher's logits, and the teacher gave none; remove it from this term"):
        Calibrate()(STUDENT, Signals(), LABELS)
