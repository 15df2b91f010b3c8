"""Area under the risk-coverage curve."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.evaluate.metrics import classification_metrics
from limbeck.evaluate.risk import risk_coverage


def test_by_hand():
    """From the surest: right, wrong, right, so the risks are 0, 1/2, 1/3; at best 0, 0, 1/3."""
    found = risk_coverage(torch.tensor([0.2, 0.9, 0.5]), torch.tensor([True, True, False]))
    assert found == {"aurc": pytest.approx(1000 * (1 / 2 + 1 / 3) / 3), "eaurc": pytest.approx(1000 * (1 / 2) / 3)}


def test_limits():
    confidence = torch.linspace(0, 1, 6)
    assert risk_coverage(confidence, torch.ones(6, dtype=torch.bool)) == {"aurc": 0.0, "eaurc": 0.0}
    wrong = risk_coverage(confidence, torch.zeros(6, dtype=torch.bool))
    assert wrong == {"aurc": pytest.approx(1000), "eaurc": pytest.approx(0)}
    knows = risk_coverage(confidence, confidence > 0.5)
    assert knows["eaurc"] == 0
    assert knows["aurc"] > 0


def test_equally_confident_answers_come_in_their_order():
    even = torch.zeros(2)
    assert risk_coverage(even, torch.tensor([False, True]))["aurc"] == pytest.approx(750)
    assert risk_coverage(even, torch.tensor([True, False]))["aurc"] == pytest.approx(250)


def test_oracle():
    rng = np.random.default_rng(0)
    confidence, right = rng.random(40), rng.random(40) < 0.7
    order = sorted(range(40), key=lambda i: -confidence[i])
    risks = [sum(not right[i] for i in order[: k + 1]) / (k + 1) for k in range(40)]
    errors = int((~right).sum())
    best = [max(0, k + 1 - (40 - errors)) / (k + 1) for k in range(40)]
    found = risk_coverage(torch.tensor(confidence), torch.tensor(right))
    assert found["aurc"] == pytest.approx(1000 * np.mean(risks))
    assert found["eaurc"] == pytest.approx(1000 * (np.mean(risks) - np.mean(best)))


def test_of_a_classifier():
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]]), torch.tensor([0, 0, 0])
    found = classification_metrics(logits, labels)
    assert found["aurc"] == pytest.approx(1000 * (1 / 2 + 1 / 3) / 3)
    assert found["eaurc"] == pytest.approx(1000 * (1 / 2) / 3)


def test_golden():
    check_parity("calibration_ece_aurc")
