"""Ranks of the right answer, which rows count, and pairs of answers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from limbeck.ops.ranks import first_hit, hinge_pairs, least_wrong_mean, log_likelihood, logistic_pairs, preferred_pairs, wrongness


def test_wrongness_by_hand():
    scores = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    probabilities = torch.tensor([[0.5, 0.1, 0.4], [0.6, 0.1, 0.3], [0.7, 0.2, 0.1]])
    torch.testing.assert_close(wrongness(scores, probabilities, torch.tensor([0, 1, 2])), torch.tensor([0.5, 2.9, 1.9]))


def test_of_equal_scores_the_first_is_ranked_higher():
    scores = torch.ones(3, 3)
    assert wrongness(scores, torch.ones(3, 3), torch.tensor([0, 1, 2])).tolist() == [0.0, 1.0, 2.0]


VALUES = torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0])
ERRORS = torch.tensor([2.6, 0.3, 1.5, 4.0, 1.0])


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, 10), (0.24, 10), (0.25, 10010 / 2), (0.5, 10110 / 3), (0.75, 10111 / 4), (0.99, 10111 / 4), (1.0, 11111 / 5)],
)
def test_share_of_the_wrong(share, expected):
    assert least_wrong_mean(VALUES, ERRORS, share=share).item() == pytest.approx(expected)


def test_the_count_is_rounded_down_as_in_double_precision():
    """29 hundredths of 100 are 28.999999999999996."""
    values = torch.arange(100.0)
    assert least_wrong_mean(values, values + 1, share=0.29).item() == pytest.approx(sum(range(28)) / 28)


def test_equal_errors_count_in_their_order():
    assert least_wrong_mean(torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.full((4,), 2.0), share=0.5).item() == pytest.approx(1.5)


def test_nothing_counts():
    values = torch.ones(3, requires_grad=True)
    value = least_wrong_mean(values, torch.full((3,), 2.0), share=0.1)
    value.backward()
    assert value.item() == 0
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 0.0, 0.0]


def test_preferred_pairs_by_hand():
    """Of (0.5, 0.4, 0.05, 0.2): with least 0.1 the third counts nothing, and the first is not far enough above the second."""
    found = preferred_pairs(torch.tensor([0.5, 0.4, 0.05, 0.2]), least=0.11)
    assert found.nonzero().tolist() == [[0, 3], [1, 3]]
    assert preferred_pairs(torch.tensor([1.0, 0.5, 0.25]), least=0.25).nonzero().tolist() == [[0, 1]]


def test_losses_of_pairs_by_hand():
    scores = torch.tensor([1.0, -1.0])
    torch.testing.assert_close(
        logistic_pairs(scores), torch.tensor([[math.log(2), math.log1p(math.exp(-2))], [math.log1p(math.exp(2)), math.log(2)]])
    )
    assert hinge_pairs(scores, 1.5).tolist() == [[1.5, 0.0], [3.5, 1.5]]
    assert hinge_pairs(scores, torch.tensor([[0.0, 3.0], [-3.0, 0.0]])).tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_first_hit_by_hand():
    """The answers in order: 4, 0, 2, 5, ..."""
    scores = torch.tensor([[5.0, 0.0, 4.0, 0.5, 9.0, 3.0]]).expand(5, 6)
    targets = torch.tensor([4, 5, 2, 1, 3])
    assert first_hit(scores, targets, before=0, after=0, top=3).tolist() == pytest.approx([1, 0, 1 / 3, 0, 0])
    assert first_hit(scores, targets, before=1, after=0, top=9).tolist() == pytest.approx([1, 1, 1 / 3, 1 / 2, 1 / 3])
    assert first_hit(scores, targets, before=0, after=1, top=6).tolist() == pytest.approx([1, 1 / 4, 1 / 3, 1 / 3, 1])
    several = first_hit(scores.unsqueeze(1).expand(5, 2, 6), torch.stack([targets, targets], 1), before=1, after=0, top=9)
    torch.testing.assert_close(several, torch.tensor([1, 1, 1 / 3, 1 / 2, 1 / 3]).unsqueeze(1).expand(5, 2))


def test_log_likelihood_by_hand():
    """Drawn 3/6, then 1/3 of what is left, then for certain; over all orders the probabilities sum to 1."""
    scores = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]]).log()
    torch.testing.assert_close(log_likelihood(scores).exp(), torch.tensor([3 / 6 * 1 / 3, 1 / 6]))
    orders = torch.tensor(list(itertools.permutations(range(3))))
    torch.testing.assert_close(log_likelihood(scores[0][orders]).exp().sum(), torch.tensor(1.0))
