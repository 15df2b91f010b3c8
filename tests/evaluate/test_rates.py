"""Sensitivity, specificity and areas under the curve against scikit-learn and by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from limbeck.evaluate import ranking
from limbeck.evaluate.metrics import classification_metrics, confusion, multilabel_metrics
from limbeck.evaluate.ranking import areas, auc, ranks
from limbeck.evaluate.rates import rates, sensitivities, specificities


def _drawn(classes, examples=300):
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(0, classes, (examples,), generator=generator)
    logits = torch.randn(examples, classes, generator=generator) + 1.5 * torch.nn.functional.one_hot(labels, classes)
    return logits, labels


@pytest.mark.parametrize("classes", [3, 7])
def test_rates_of_several_classes_equal_sklearn(classes):
    logits, labels = _drawn(classes)
    guess = logits.argmax(1)
    got = rates(confusion(guess, labels, classes))
    tables = sk.multilabel_confusion_matrix(labels.numpy(), guess.numpy(), labels=range(classes))
    assert got["sensitivity"] == pytest.approx(sk.recall_score(labels, guess, average="macro"))
    assert got["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, guess))
    assert got["specificity"] == pytest.approx(np.mean([table[0, 0] / table[0].sum() for table in tables]))


def test_of_two_classes_the_second_is_looked_for():
    logits, labels = _drawn(2)
    guess = logits.argmax(1)
    got = rates(confusion(guess, labels, 2))
    assert got["sensitivity"] == pytest.approx(sk.recall_score(labels, guess))
    assert got["specificity"] == pytest.approx(sk.recall_score(labels, guess, pos_label=0))
    assert got["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, guess))


def test_rates_by_hand():
    table = torch.tensor([[3, 1], [2, 4]])
    assert rates(table) == pytest.approx({"balanced_accuracy": (3 / 4 + 4 / 6) / 2, "sensitivity": 4 / 6, "specificity": 3 / 4})
    assert specificities(torch.tensor([[1, 1, 0], [0, 2, 0], [1, 0, 3]])).tolist() == pytest.approx([5 / 6, 5 / 6, 1.0])


def test_classes_that_do_not_occur_do_not_count():
    table = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert sensitivities(table).isnan().tolist() == [False, False, True]
    assert rates(table) == pytest.approx({"balanced_accuracy": 17 / 24, "sensitivity": 17 / 24, "specificity": (4 / 6 + 3 / 4) / 2})


def test_one_class_alone_has_no_specificity():
    got = classification_metrics(torch.eye(3), torch.zeros(3, dtype=torch.int64))
    assert got["sensitivity"] == pytest.approx(1 / 3)
    assert math.isnan(got["specificity"])
    assert math.isnan(got["auc"])


def test_ranks_share_the_mean_of_ties():
    assert ranks(torch.tensor([[1.0], [3.0], [1.0], [2.0], [1.0]]))[:, 0].tolist() == [2, 5, 2, 4, 2]
    assert ranks(torch.tensor([[1.0, 2.0], [2.0, 1.0]])).tolist() == [[1, 2], [2, 1]]


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_auc_equals_sklearn(classes):
    logits, labels = _drawn(classes)
    p = logits.double().softmax(1).numpy()
    expected = sk.roc_auc_score(labels, p[:, 1]) if classes == 2 else sk.roc_auc_score(labels, p, multi_class="ovr")
    assert auc(logits, labels) == pytest.approx(expected)
    assert classification_metrics(logits, labels)["auc"] == pytest.approx(expected)


def test_auc_with_ties_equals_sklearn():
    scores, hit = torch.randint(0, 4, (200, 3)).double(), torch.rand(200, 3) > 0.7
    expected = [sk.roc_auc_score(hit[:, i], scores[:, i]) for i in range(3)]
    assert areas(scores, hit).tolist() == pytest.approx(expected)


def test_auc_of_labels_equals_sklearn():
    logits, hit = torch.randn(100, 4), torch.rand(100, 4) > 0.5
    assert multilabel_metrics(logits, hit.float())["auc"] == pytest.approx(sk.roc_auc_score(hit, logits, average="macro"))


def test_columns_in_parts_give_the_same(monkeypatch):
    scores, hit = torch.randn(50, 7), torch.rand(50, 7) > 0.5
    whole = areas(scores, hit)
    monkeypatch.setattr(ranking, "AT_ONCE", 100)
    assert torch.equal(areas(scores, hit), whole)


def test_a_class_without_examples_is_left_out_of_the_mean():
    logits, labels = _drawn(4)
    kept = labels < 3
    p = logits[kept].double().softmax(1).numpy()
    expected = np.mean([sk.roc_auc_score(labels[kept] == i, p[:, i]) for i in range(3)])
    assert auc(logits[kept], labels[kept]) == pytest.approx(expected)


def test_very_sure_answers_of_two_classes_keep_their_order():
    logits = torch.tensor([[0.0, 100.0], [0.0, 200.0], [0.0, 300.0]])
    assert auc(logits, torch.tensor([0, 1, 1])) == 1.0
    assert auc(logits, torch.tensor([1, 0, 0])) == 0.0


def test_auc_by_hand():
    # Pairs (member, other): 0.9 > 0.8, 0.9 > 0.1, 0.8 = 0.8 counts a half, 0.8 > 0.1.
    scores = torch.tensor([[0.9], [0.8], [0.8], [0.1]])
    assert areas(scores, torch.tensor([[True], [True], [False], [False]])).item() == pytest.approx(3.5 / 4)
