"""Holm's correction and the ranking of arms, against scipy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from limbeck.study.multiple import Ranking, cliques, critical_difference, friedman, holm, holm_confidences, rank, ranks
from limbeck.study.statistics import paired


def test_holm_by_hand():
    """The smallest times 3, the next times 2, the last times 1, never falling; capped at 1."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


chances = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(chances, st.sampled_from([0.9, 0.95, 0.99]))
def test_a_hypothesis_falls_at_its_step_just_where_its_adjusted_p_is_small(p: list[float], confidence: float):
    adjusted, levels = holm(p), holm_confidences(p, confidence)
    for own, corrected, level in zip(p, adjusted, levels, strict=True):
        assert own <= corrected <= min(1.0, len(p) * own) + 1e-15
        assert confidence - 1e-12 <= level <= 1 - (1 - confidence) / len(p) + 1e-12
        if abs(corrected - (1 - confidence)) > 1e-9:
            assert (corrected <= 1 - confidence) == (own <= 1 - level)


def test_the_confidence_of_each_step():
    assert holm_confidences([0.001, 0.5, 0.02], 0.95) == pytest.approx([1 - 0.05 / 3, 0.95, 0.975])
    assert holm_confidences([0.001, 0.5, 0.04], 0.95) == pytest.approx([1 - 0.05 / 3, 0.975, 0.975])  # the second stops the procedure
    assert holm_confidences([0.04, 0.04], 0.95) == pytest.approx([0.975, 0.975])
    assert holm_confidences([0.04], 0.95) == pytest.approx([0.95])
    assert holm_confidences([], 0.95) == []


def test_ranks_begin_with_the_best_and_ties_share():
    columns = [[0.9, 0.5], [0.8, 0.5], [0.7, 0.9]]
    assert ranks(columns).tolist() == [[1, 2, 3], [2.5, 2.5, 1]]
    assert ranks(columns, higher=False).tolist() == [[3, 2, 1], [1.5, 1.5, 3]]


tables = st.integers(3, 5).flatmap(
    lambda arms: st.integers(2, 6).flatmap(
        lambda seeds: st.lists(st.lists(st.integers(0, 4).map(float), min_size=seeds, max_size=seeds), min_size=arms, max_size=arms)
    )
)


@given(tables)
def test_friedman_is_that_of_scipy(columns: list[list[float]]):
    assume(any(len(set(row)) > 1 for row in zip(*columns, strict=True)))
    expected = stats.friedmanchisquare(*columns)
    statistic, p = friedman(columns)
    assert statistic == pytest.approx(expected.statistic, abs=1e-9)
    assert p == pytest.approx(expected.pvalue, abs=1e-9)


def test_friedman_of_two_arms_is_the_sign_test_and_of_ties_says_nothing():
    statistic, p = friedman([[1.0, 1, 1, 1], [0.0, 0, 0, 2]])  # three seeds for, one against: (3 - 1)^2 / 4
    assert statistic == pytest.approx(1.0)
    assert p == pytest.approx(stats.chi2.sf(1.0, 1))
    assert friedman([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="two arms and a seed, found 1 and 2"):
        friedman([[1.0, 2.0]])


@pytest.mark.parametrize(("arms", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_differences_have_the_quantiles_of_the_literature(arms: int, q: float):
    """Demsar 2006, table 5a."""
    assert critical_difference(arms, 6, 0.95) == pytest.approx(q * math.sqrt(arms * (arms + 1) / 36), rel=4e-4)


def test_a_published_critical_difference():
    """Demsar 2006, section 3.2.2: four classifiers on 14 data sets, CD = 1.25 at 5% and 1.12 at 10%."""
    assert critical_difference(4, 14, 0.95) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, 0.90) == pytest.approx(1.12, abs=0.005)


def test_cliques_are_the_largest_groups_and_hold_no_other():
    mean_rank = {"d": 4.0, "a": 1.0, "c": 2.4, "b": 1.9}
    assert cliques(mean_rank, 1.0) == [["a", "b"], ["b", "c"]]
    assert cliques(mean_rank, 1.5) == [["a", "b", "c"]]
    assert cliques(mean_rank, 1.7) == [["a", "b", "c"], ["c", "d"]]
    assert cliques(mean_rank, 9.0) == [["a", "b", "c", "d"]]
    assert cliques(mean_rank, 0.1) == []
    assert cliques({"a": 1.0, "b": 2.0}, 1.0) == [], "a critical difference apart is apart"


def planted(seeds: int = 6) -> dict[str, list[float | None]]:
    noise = np.random.default_rng(3).normal(0, 0.01, size=(3, seeds))
    return {
        "weak": (0.5 + noise[0]).tolist(),
        "best": (0.9 + noise[1]).tolist(),
        "good": (0.8 + noise[2]).tolist(),
    }


def test_a_ranking():
    columns = planted()
    found = rank("accuracy", columns, baseline="weak")
    assert found.order == ["best", "good", "weak"]
    assert found.mean_rank == {"best": 1.0, "good": 2.0, "weak": 3.0}
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*columns.values()).pvalue)
    assert found.critical_difference == critical_difference(3, 6, 0.95)
    assert found.cliques == [["best", "good"], ["good", "weak"]]
    assert [(pair.a, pair.b) for pair in found.pairs] == [("best", "weak"), ("good", "weak")]
    tests = [stats.ttest_rel(columns[arm], columns["weak"]) for arm in ("best", "good")]
    assert [pair.p_adjusted for pair in found.pairs] == pytest.approx(holm([test.pvalue for test in tests]))
    levels = holm_confidences([test.pvalue for test in tests], 0.95)
    for pair, test, level in zip(found.pairs, tests, levels, strict=True):
        assert (pair.low, pair.high) == pytest.approx(tuple(test.confidence_interval(level)))
        assert pair.mean == pytest.approx((pair.low + pair.high) / 2)


def test_lower_is_better_turns_the_ranks_and_not_the_differences():
    found = rank("nll", planted(), better="lower", baseline="weak")
    assert found.order == ["weak", "good", "best"]
    assert found.pairs[0].mean == pytest.approx(0.4, abs=0.02)


def test_without_a_baseline_all_pairs_are_compared():
    found = rank("accuracy", planted())
    assert [(pair.a, pair.b) for pair in found.pairs] == [("weak", "best"), ("weak", "good"), ("best", "good")]
    assert rank("accuracy", planted(), baseline="unknown").pairs == found.pairs


def test_missing_values_leave_a_seed_out_of_the_ranks_and_out_of_its_pairs():
    columns = planted()
    columns["best"][2] = None
    columns["good"][4] = math.nan
    found = rank("accuracy", columns, baseline="weak")
    whole = {arm: [column[i] for i in (0, 1, 3, 5)] for arm, column in columns.items()}
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*whole.values()).pvalue)
    assert found.critical_difference == critical_difference(3, 4, 0.95)
    left = [value for i, value in enumerate(columns["best"]) if i != 2 and value is not None]
    right = [value for i, value in enumerate(columns["weak"]) if i != 2 and value is not None]
    assert found.pairs[0].mean == pytest.approx(paired(left, right, 0.95).estimate)


def test_what_cannot_be_ranked():
    assert rank("x", {}) == Ranking("x", [], {}, None, None, [], [])
    assert rank("x", {"a": [1.0, 2.0]}) == Ranking("x", ["a"], {"a": 1.0}, None, None, [], [])
    found = rank("x", {"a": [1.0, None], "b": [None, 2.0], "c": [None, None]})
    assert found == Ranking("x", ["a", "b"], {}, None, None, [], [])
    one = rank("x", {"a": [1.0], "b": [2.0]})
    assert (one.order, one.mean_rank, one.pairs) == (["b", "a"], {"b": 1.0, "a": 2.0}, [])


def test_null_arms_are_seldom_told_apart():
    draws = np.random.default_rng(4).normal(size=(400, 4, 10))
    wrong = sum(any(pair.p_adjusted <= 0.05 for pair in rank("x", dict(zip("abcd", table.tolist(), strict=True))).pairs) for table in draws)
    assert wrong / 400 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)
