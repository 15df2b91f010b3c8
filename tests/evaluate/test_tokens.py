"""Metrics of language models, against whole logits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import ShapeMismatch
from limbeck.evaluate import tokens as module
from limbeck.evaluate.metrics import top_k_accuracy
from limbeck.evaluate.reliability import calibration_error, reliability
from limbeck.evaluate.tokens import language_metrics, token_agreement, token_reliability, token_statistics
from limbeck.ops.projection import project
from limbeck.tokens import Hidden, Logits, Projection


def model(seed: int, *, vocabulary: int = 30, rows: int = 40) -> Hidden:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(rows, 8, generator=generator), torch.randn(vocabulary, 8, generator=generator)
    return Hidden(hidden, Projection(weight))


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES", 7 * 8 * 30)  # seven rows at a time


def test_metrics_are_those_of_whole_logits() -> None:
    said = model(0)
    labels = torch.randint(30, (40,), generator=torch.Generator().manual_seed(1))
    logits = project(said.hidden, said.head)
    found = language_metrics(token_statistics(said, labels))
    nll = F.cross_entropy(logits.double(), labels).item()
    assert found["nll"] == pytest.approx(nll, rel=1e-9)
    assert found["perplexity"] == pytest.approx(math.exp(nll), rel=1e-9)
    assert found["accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    assert found["top5"] == top_k_accuracy(logits, labels, 5)
    assert found["ece"] == pytest.approx(calibration_error(logits, labels), rel=1e-9)
    mine, whole = token_reliability(token_statistics(said, labels)), reliability(logits, labels)
    for key, values in whole.items():
        assert [pytest.approx(value) for value in values] == mine[key], key


def test_hopeless_models_have_a_finite_perplexity() -> None:
    logits = torch.tensor([[0.0, 1e4]])
    assert math.isfinite(language_metrics(token_statistics(Logits(logits), torch.tensor([0])))["perplexity"])


def test_agreement_of_equal_models_is_whole() -> None:
    said = model(0)
    labels = project(said.hidden, said.head).argmax(1)
    found = token_agreement(said, said, labels)
    assert found["top1"] == 1
    assert found["kl"] == pytest.approx(0, abs=1e-12)
    assert found["top1_teacher_right"] == 1
    assert found["top1_teacher_wrong"] is None


def test_agreement_by_hand() -> None:
    student = Logits(torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]))
    teacher = Logits(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    found = token_agreement(student, teacher, torch.tensor([0, 1, 1]))
    p, q = teacher.logits.double().softmax(1), student.logits.double().softmax(1)
    assert found["kl"] == pytest.approx((p * (p / q).log()).sum(1).mean().item())
    assert found["top1"] == pytest.approx(1 / 3)
    assert found["top1_teacher_right"] == 0.5
    assert found["top1_teacher_wrong"] == 0


def test_rows_that_only_pad_are_left_out_of_agreement() -> None:
    said = model(0)
    padded = Hidden(said.hidden, Projection(torch.cat([said.head.weight, torch.zeros(4, 8)])))
    assert token_agreement(said, padded, torch.zeros(40, dtype=torch.int64))["kl"] == pytest.approx(0, abs=1e-12)


def test_numbers_that_do_not_fit_are_told() -> None:
    with pytest.raises(ShapeMismatch, match="3 labels do not fit the 40 tokens"):
        token_statistics(model(0), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ShapeMismatch, match="found 40 and 10"):
        token_agreement(model(0), model(1, rows=10), torch.zeros(40, dtype=torch.int64))
