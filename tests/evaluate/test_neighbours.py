"""Votes of the nearest against scikit-learn and by hand."""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from limbeck.errors import ShapeMismatch
from limbeck.evaluate import neighbours
from limbeck.evaluate.neighbours import nearest_accuracy, nearest_vote


@pytest.mark.parametrize(("k", "p"), [(1, 2.0), (5, 2.0), (7, 1.0), (3, 3.0)])
def test_the_vote_equals_sklearn(k, p):
    known, labels, asked = torch.randn(80, 4), torch.randint(0, 3, (80,)) * 5, torch.randn(30, 4)
    expected = KNeighborsClassifier(k, p=p).fit(known.double(), labels).predict(asked.double())
    assert nearest_vote(known, labels, asked, k=k, p=p).tolist() == expected.tolist()


def test_of_equally_common_labels_the_smallest_wins():
    known = torch.tensor([[0.0], [1.0], [3.0]])
    assert nearest_vote(known, torch.tensor([9, 4, 4]), torch.tensor([[0.0]]), k=2).tolist() == [4]
    assert nearest_vote(known, torch.tensor([9, 4, 4]), torch.tensor([[0.0]]), k=1).tolist() == [9]


def test_of_equally_near_examples_the_first_votes():
    known = torch.tensor([[1.0], [-1.0], [1.0]])
    assert nearest_vote(known, torch.tensor([2, 1, 0]), torch.tensor([[0.0]]), k=1).tolist() == [2]


def test_more_neighbours_than_examples_are_all():
    assert nearest_vote(torch.tensor([[0.0], [5.0], [6.0]]), torch.tensor([0, 1, 1]), torch.tensor([[0.0]]), k=9).tolist() == [1]


def test_parts_give_the_same(monkeypatch):
    known, labels, asked = torch.randn(40, 3), torch.randint(0, 4, (40,)), torch.randn(25, 3)
    whole = nearest_vote(known, labels, asked)
    monkeypatch.setattr(neighbours, "AT_ONCE", 100)
    assert nearest_vote(known, labels, asked).tolist() == whole.tolist()
    assert nearest_vote(known, labels, asked[:0]).tolist() == []


def test_a_probe_of_digits_is_mostly_right_and_repeats():
    x, y = (torch.as_tensor(value) for value in load_digits(return_X_y=True))
    found = nearest_accuracy(x[:600].float().reshape(600, 8, 8), y[:600])
    assert found > 0.9
    assert found == nearest_accuracy(x[:600].float(), y[:600])
    assert nearest_accuracy(torch.randn(600, 64, generator=torch.Generator().manual_seed(0)), y[:600]) < 0.3


def test_the_share_that_is_known():
    # One of two examples is known and votes for itself: the other, of another class, is always wrong.
    features, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    assert [nearest_accuracy(features, labels, share=share) for share in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("known", "labels", "asked"),
    [((3, 2), (4,), (1, 2)), ((3, 2), (3,), (1, 3)), ((0, 2), (0,), (1, 2)), ((3, 2, 1), (3,), (1, 2, 1))],
)
def test_shapes_that_do_not_belong_together(known, labels, asked):
    with pytest.raises(ShapeMismatch, match="nearest neighbours take"):
        nearest_vote(torch.zeros(known), torch.zeros(labels), torch.zeros(asked))


def test_a_probe_needs_two_examples():
    with pytest.raises(ShapeMismatch, match="two or more examples with labels, found 1 and 1"):
        nearest_accuracy(torch.zeros(1, 2), torch.zeros(1))
