"""Examples that are drawn by shares of their domains."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.data.domains import counts_of, drawn
from limbeck.data.loader import EpochPlan

DOMAINS = np.array([0, 1, 0, 2, 0, 1, 0, 0])


def numbers(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_each_domain_is_read_through_before_it_is_read_again():
    first = drawn(DOMAINS, numbers(3, 3, 1), numbers(0, 0, 0), 7)
    second = drawn(DOMAINS, numbers(2, 1, 1), numbers(3, 3, 1), 7)
    assert np.bincount(DOMAINS[first]).tolist() == [3, 3, 1]
    zeros = [i for i in [*first, *second] if DOMAINS[i] == 0]
    assert sorted(zeros) == [0, 2, 4, 6, 7]
    ones = [i for i in [*first, *second] if DOMAINS[i] == 1]
    assert sorted(ones[:2]) == sorted(ones[2:]) == [1, 5]
    whole = drawn(DOMAINS, numbers(5, 4, 2), numbers(0, 0, 0), 7)
    assert [i for i in whole if DOMAINS[i] == 0] == zeros
    assert drawn(DOMAINS, numbers(5, 4, 2), numbers(0, 0, 0), 8).tolist() != whole.tolist()


def test_domains_are_spread_evenly():
    domains = np.repeat([0, 1], [60, 20])
    order = domains[drawn(domains, numbers(60, 20), numbers(0, 0), 0)]
    assert all(3 <= (part == 0).sum() + 0 <= 9 for part in np.split(order, 10))
    assert [int((part == 1).sum()) for part in np.split(order, 10)] == [2] * 10


def test_counts_by_largest_remainder():
    assert counts_of(np.array([0.5, 0.3, 0.2]), 10, numbers(9, 9, 9)).tolist() == [5, 3, 2]
    assert counts_of(np.array([1 / 3, 1 / 3, 1 / 3]), 10, numbers(9, 9, 9)).sum() == 10
    assert counts_of(np.array([0.5, 0.25, 0.25]), 8, numbers(9, 0, 9)).tolist() == [5, 0, 3]


def test_a_plan_over_a_given_order():
    plan = EpochPlan(8, batch_size=2, accumulate=2, seed=0).drawn(numbers(3, 3, 1, 0, 2, 2))
    assert plan.updates == 3
    assert plan.micro_batches() == [[3], [3], [1], [0], [2], [2]]
    assert plan.micro_batches(1) == [[1], [0], [2], [2]]
    assert EpochPlan(8, batch_size=2).updates == 4
    assert EpochPlan(8, batch_size=2, world=2, rank=1).drawn(numbers(3, 4)).micro_batches() == [[4]]
    assert [u for u, _ in EpochPlan(8, batch_size=4, crops=2).drawn(numbers(3, 4)).whole()] == [0]


@pytest.mark.parametrize("cursor", [0, 2, 9])
def test_where_a_domain_is_read_on(cursor: int):
    long = drawn(DOMAINS, numbers(cursor + 4, 0, 0), numbers(0, 0, 0), 3)
    assert drawn(DOMAINS, numbers(4, 0, 0), numbers(cursor, 0, 0), 3).tolist() == long[cursor:].tolist()
