"""Metrics against scikit-learn and by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from limbeck.evaluate.metrics import (
    brier,
    classification_metrics,
    confusion,
    mean_average_precision,
    multilabel_metrics,
    regression_metrics,
    top_k_accuracy,
)
from limbeck.evaluate.reliability import (
    adaptive_calibration_error,
    calibration_error,
    classwise_calibration_error,
    reliability,
)


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_classification_equals_sklearn(classes):
    logits, labels = torch.randn(300, classes) * 3, torch.randint(0, classes, (300,))
    got = classification_metrics(logits, labels)
    p, y = logits.double().softmax(1).numpy(), labels.numpy()
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(y, p.argmax(1)))
    assert got["nll"] == pytest.approx(sk.log_loss(y, p, labels=range(classes)))
    assert got["macro_f1"] == pytest.approx(sk.f1_score(y, p.argmax(1), average="macro"))
    assert got["brier"] == pytest.approx(((p - np.eye(classes)[y]) ** 2).sum(1).mean())
    assert ("top5" in got) == (classes > 10)
    if classes > 10:
        assert got["top5"] == pytest.approx(sk.top_k_accuracy_score(y, p, k=5, labels=range(classes)))
    assert confusion(logits.argmax(1), labels, classes).tolist() == sk.confusion_matrix(y, p.argmax(1), labels=range(classes)).tolist()


def test_macro_f1_leaves_out_classes_that_do_not_occur():
    logits, labels = torch.eye(5)[[0, 1, 1, 0]] * 9, torch.tensor([0, 1, 0, 0])
    expected = sk.f1_score(labels.numpy(), logits.argmax(1).numpy(), average="macro")
    assert classification_metrics(logits, labels)["macro_f1"] == pytest.approx(expected)


def test_extreme_logits_stay_finite():
    got = classification_metrics(torch.tensor([[1e4, -1e4], [1e4, -1e4]]), torch.tensor([0, 1]))
    assert got["nll"] == pytest.approx(1e4)
    assert all(math.isfinite(value) for value in got.values())
    got = multilabel_metrics(torch.tensor([[1e4], [-1e4]]), torch.tensor([[0.0], [1.0]]))
    assert got["nll"] == pytest.approx(1e4)


def test_brier_by_hand():
    assert brier(torch.tensor([[0.0, 0.0]]), torch.tensor([0])) == pytest.approx(0.5)
    assert brier(torch.tensor([[99.0, -99.0]]), torch.tensor([1])) == pytest.approx(2.0)


def test_top_k_with_few_classes():
    assert top_k_accuracy(torch.randn(7, 3), torch.zeros(7, dtype=torch.int64), 5) == 1.0


class TestCalibration:
    def test_bins_of_equal_count_by_hand(self):
        # Confidences 0.6, 0.7, 0.8, 0.9 and answers wrong, right, right, right: two bins of two.
        p = torch.tensor([0.9, 0.6, 0.8, 0.7])
        logits = torch.stack([p.log(), (1 - p).log()], 1)
        labels = torch.tensor([0, 1, 0, 0])
        expected = abs(0.6 + 0.7 - 1) / 4 + abs(0.8 + 0.9 - 2) / 4
        assert adaptive_calibration_error(logits, labels, bins=2) == pytest.approx(expected)

    def test_bins_of_equal_count_that_do_not_divide(self):
        logits, labels = torch.randn(100, 4) * 2, torch.randint(0, 4, (100,))
        confidence, guess = logits.double().softmax(1).max(1)
        order = np.argsort(confidence.numpy())
        parts = np.array_split((confidence - (guess == labels).double()).numpy()[order], 15)
        expected = sum(abs(part.sum()) for part in parts) / 100
        assert adaptive_calibration_error(logits, labels) == pytest.approx(expected)
        assert classification_metrics(logits, labels)["adaptive_ece"] == pytest.approx(expected)

    def test_one_bin_of_either_kind_is_the_gap_of_the_means(self):
        logits, labels = torch.randn(50, 4), torch.randint(0, 4, (50,))
        assert adaptive_calibration_error(logits, labels, bins=1) == pytest.approx(calibration_error(logits, labels, bins=1))

    def test_class_by_class_equals_torchmetrics(self):
        from torchmetrics.functional.classification import binary_calibration_error

        logits, labels = torch.randn(400, 5) * 2, torch.randint(0, 5, (400,))
        p = logits.double().softmax(1)
        expected = [binary_calibration_error(p[:, i].float(), (labels == i).long(), n_bins=15).item() for i in range(5)]
        assert classwise_calibration_error(logits, labels) == pytest.approx(np.mean(expected), rel=1e-4)
        assert classification_metrics(logits, labels)["classwise_ece"] == pytest.approx(np.mean(expected), rel=1e-4)

    def test_class_by_class_by_hand(self):
        logits = torch.tensor([[0.7, 0.3], [0.7, 0.3]]).log()
        # One bin: class 0 says 1.4 in all and is true once, class 1 says 0.6 and is true once.
        assert classwise_calibration_error(logits, torch.tensor([0, 1]), bins=1) == pytest.approx((0.4 / 2 + 0.4 / 2) / 2)

    def logits(self, *confidence):
        p = torch.tensor(confidence, dtype=torch.float64)
        return torch.stack([p, 1 - p], 1).log()

    def test_by_hand(self):
        logits = self.logits(0.9, 0.9, 0.6)
        labels = torch.tensor([0, 1, 0])  # bin of 0.9: half are right; bin of 0.6: all
        assert calibration_error(logits, labels) == pytest.approx((2 * 0.4 + 1 * 0.4) / 3)

    def test_certain_and_right_is_zero(self):
        logits = torch.tensor([[1e4, -1e4]] * 5)
        assert calibration_error(logits, torch.zeros(5, dtype=torch.int64)) == 0.0
        assert calibration_error(logits, torch.ones(5, dtype=torch.int64)) == 1.0
        bins = reliability(logits, torch.zeros(5, dtype=torch.int64))
        assert bins["count"] == [0] * 14 + [5]
        assert bins["confidence"][-1] == bins["accuracy"][-1] == 1.0
        assert bins["accuracy"][:14] == [None] * 14
        assert len(bins["edges"]) == 16

    def test_edges_belong_to_the_lower_bin(self):
        bins = reliability(self.logits(0.75), torch.tensor([0]), bins=4)
        assert bins["count"] == [0, 0, 1, 0]

    def test_calibrated_model_has_little_error(self):
        logits = torch.randn(60000, 4, dtype=torch.float64)
        labels = torch.multinomial(logits.softmax(1), 1)[:, 0]
        assert calibration_error(logits, labels) < 0.01
        assert calibration_error(logits * 3, labels) > 0.2

    def test_counts_and_weighted_gap_agree(self):
        logits, labels = torch.randn(500, 5), torch.randint(0, 5, (500,))
        bins = reliability(logits, labels)
        gaps = [n * abs(c - a) for n, c, a in zip(bins["count"], bins["confidence"], bins["accuracy"], strict=True) if n]
        assert sum(gaps) / 500 == pytest.approx(calibration_error(logits, labels))
        assert sum(bins["count"]) == 500


def test_multilabel_equals_sklearn():
    logits, truth = torch.randn(200, 6), (torch.rand(200, 6) < 0.3).float()
    got = multilabel_metrics(logits, truth)
    y, guess = truth.numpy(), (logits > 0).numpy()
    assert got["map"] == pytest.approx(sk.average_precision_score(y, logits.numpy(), average="macro"))
    assert got["micro_f1"] == pytest.approx(sk.f1_score(y, guess, average="micro"))
    assert got["macro_f1"] == pytest.approx(sk.f1_score(y, guess, average="macro", zero_division=0))  # pyright: ignore[reportArgumentType]
    p = logits.double().sigmoid().numpy()
    assert got["nll"] == pytest.approx(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


def test_average_precision_with_ties_equals_sklearn():
    scores, hit = torch.randint(0, 4, (100, 3)).double(), torch.rand(100, 3) < 0.4
    assert mean_average_precision(scores, hit) == pytest.approx(sk.average_precision_score(hit.numpy(), scores.numpy()))
    constant = torch.zeros(10, 1)
    assert mean_average_precision(constant, torch.arange(10)[:, None] < 3) == pytest.approx(0.3)


def test_labels_that_never_occur_are_left_out():
    hit = torch.tensor([[True, False], [False, False]])
    assert mean_average_precision(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), hit) == 1.0


@pytest.mark.parametrize("targets", [1, 3])
def test_regression_equals_sklearn(targets):
    y, p = torch.randn(100, targets) * 5 + 1000, torch.randn(100, targets) * 5 + 1000
    got = regression_metrics(p, y)
    y, p = y.double().numpy(), p.double().numpy()
    assert got["rmse"] == pytest.approx(sk.root_mean_squared_error(y, p))
    assert got["mae"] == pytest.approx(sk.mean_absolute_error(y, p))
    assert got["r2"] == pytest.approx(sk.r2_score(y, p))


@pytest.mark.parametrize(("value", "expected"), [(2.0, 1.0), (3.0, 0.0)])
def test_r2_of_a_constant_target(value, expected):
    y = torch.full((5, 1), 2.0)
    assert regression_metrics(torch.full((5, 1), value), y)["r2"] == expected == sk.r2_score(y, torch.full((5, 1), value))
