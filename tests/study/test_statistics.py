"""Intervals against scipy, by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from limbeck.study.statistics import (
    correlation,
    correlation_interval,
    fisher,
    fisher_error,
    jackknife,
    needed_seeds,
    paired,
    power,
    spread_interval,
    t_interval,
)

LEFT, RIGHT = [0.91, 0.93, 0.90, 0.95, 0.92], [0.90, 0.90, 0.91, 0.91, 0.90]


def test_paired_is_the_paired_t_test():
    expected = stats.ttest_rel(LEFT, RIGHT)
    for confidence in (0.9, 0.95, 0.99):
        found = paired(LEFT, RIGHT, confidence)
        assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
        assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(confidence)), rel=1e-10)
        assert found.estimate == found.distance == pytest.approx(0.018)
        assert found.deviation == pytest.approx(np.std(np.subtract(LEFT, RIGHT), ddof=1))


def test_an_interval_by_hand():
    found = t_interval([1.0, 2.0, 3.0], 0.95)  # mean 2, deviation 1, t(2) = 4.302653
    half = 4.302652729911275 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(2 * math.sqrt(3), 2))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12), st.sampled_from([0.8, 0.95, 0.999]))
def test_the_interval_leaves_zero_out_just_where_p_is_small(values: list[float], confidence: float):
    found = t_interval(values, confidence)
    assert found.low <= found.estimate <= found.high
    if abs(found.p - (1 - confidence)) > 1e-9:
        assert (found.low > 0 or found.high < 0) == (found.p < 1 - confidence)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8))
def test_turning_the_sign_mirrors_the_interval(values: list[float]):
    one, other = t_interval(values, 0.95), t_interval([-value for value in values], 0.95)
    assert (other.low, other.high, other.p) == pytest.approx((-one.high, -one.low, one.p))


def test_equal_values_have_no_spread():
    found = t_interval([0.25, 0.25, 0.25], 0.95)
    assert (found.estimate, found.low, found.high, found.p, found.deviation) == (0.25, 0.25, 0.25, 0.0, 0.0)
    found = t_interval([0.0, 0.0], 0.95)
    assert (found.estimate, found.low, found.high, found.p, found.deviation) == (0.0, 0.0, 0.0, 1.0, 0.0)


def test_rounding_is_no_difference():
    left = [0.1 + 0.2, 0.7 + 0.1, 1.1 + 0.1]
    right = [0.3, 0.8, 1.2]
    assert left != right
    found = paired(left, right, 0.95)
    assert (found.estimate, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    found = paired([0.91, 0.93], [0.90, 0.92], 0.95)  # 0.01 each, to rounding
    assert found.deviation == 0
    assert found.low == found.high == pytest.approx(0.01)
    assert paired([1e-9, 2e-9], [0.0, 0.0], 0.95).deviation > 0, "small numbers are no rounding beside small numbers"
    assert t_interval([1e-9, 2e-9], 0.95, scale=1e6).deviation == 0


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="an interval needs two values, found 1"):
        t_interval([1.0], 0.95)


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="zip"):
        paired([1.0, 2.0], [1.0], 0.95)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_covers_as_often_as_it_says(confidence: float):
    draws = np.random.default_rng(0).normal(0.3, 2.0, size=(4000, 5))
    covered = sum(found.low <= 0.3 <= found.high for found in (t_interval(row.tolist(), confidence) for row in draws))
    assert covered / 4000 == pytest.approx(confidence, abs=3 * math.sqrt(confidence * (1 - confidence) / 4000))


def test_the_jackknife_of_a_mean_is_the_values_and_of_a_variance_their_squares():
    data = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    assert jackknife(lambda chosen: float(data[list(chosen)].mean()), 5) == pytest.approx(data.tolist())
    pseudo = jackknife(lambda chosen: float(data[list(chosen)].var()), 5)  # the biased variance: the jackknife mends it
    assert np.mean(pseudo) == pytest.approx(data.var(ddof=1))


def test_the_interval_of_a_deviation_by_hand():
    """2, 4, 4, 6: variance 8 / 3; chi-square quantiles of 3 degrees at 2.5% and 97.5% are 0.2158 and 9.3484."""
    found = spread_interval([2.0, 4.0, 4.0, 6.0], 0.95, bound=1.0)
    assert found.estimate == pytest.approx(math.sqrt(8 / 3) - 1)
    assert (found.low, found.high) == pytest.approx((math.sqrt(8 / 9.34840) - 1, math.sqrt(8 / 0.215795) - 1), rel=1e-5)
    assert found.p == pytest.approx(2 * stats.chi2.sf(8.0, 3))
    assert (found.distance, found.deviation) == pytest.approx((0.5 * math.log(8 / 3), math.sqrt(0.5)))
    small = spread_interval([2.0, 4.0, 4.0, 6.0], 0.95, bound=9.0)
    assert small.p == pytest.approx(2 * stats.chi2.cdf(8 / 81, 3))
    assert small.high < 0


def test_deviations_at_the_edge():
    none = spread_interval([1.0, 1.0, 1.0], 0.95, bound=0.5)
    assert (none.estimate, none.low, none.high, none.p, none.deviation) == (-0.5, -0.5, -0.5, 0.0, 0.0)
    assert spread_interval([1.0, 1.0], 0.95).p == 1.0
    some = spread_interval([1.0, 2.0], 0.95)
    assert some.p == 0.0
    assert some.low > 0
    assert some.distance == math.inf
    assert spread_interval([1.0, 2.0], 0.95, bound=-1.0).estimate == pytest.approx(1 + math.sqrt(0.5))


def test_the_interval_of_a_deviation_covers_as_often_as_it_says():
    draws = np.random.default_rng(8).normal(0, 2.0, size=(2000, 5))
    covered = sum(found.low <= 0 <= found.high for found in (spread_interval(row.tolist(), 0.95, bound=2.0) for row in draws))
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_power_is_that_of_the_noncentral_t():
    draws = np.random.default_rng(1).normal(1.0, 1.0, size=(4000, 8))
    found = np.mean([t_interval(row.tolist(), 0.95).low > 0 for row in draws])
    assert power(8, 1.0, 0.95) == pytest.approx(float(found), abs=0.025)
    assert power(8, -1.0, 0.95) == power(8, 1.0, 0.95)
    assert power(10_000, 50.0, 0.95) == 1.0
    assert power(8, 0.0, 0.95) == pytest.approx(0.025)


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (1.0, 10), (0.2, 199), (2.0, 5)])
def test_needed_seeds_are_those_of_the_tables(effect: float, seeds: int):
    """Cohen, 1988: 34 pairs for d = 0.5 at 5%, two-sided, power 0.8; 199 for 0.2; 10 for 1; 5 for 2."""
    assert needed_seeds(effect, 1.0, 0.95) == seeds
    assert needed_seeds(-3 * effect, 3.0, 0.95) == seeds
    assert power(seeds, effect, 0.95) >= 0.8 > power(seeds - 1, effect, 0.95)


def test_needed_seeds_where_none_would_do_and_where_more_are_there():
    assert needed_seeds(0.0, 1.0, 0.95) is None
    assert needed_seeds(1e-4, 1.0, 0.95) is None
    assert needed_seeds(1.0, 0.0, 0.95) is None
    assert needed_seeds(5.0, 1.0, 0.95, at_least=7) == 7
    assert needed_seeds(math.inf, 1.0, 0.95) is None
    found, strict = needed_seeds(1.0, 1.0, 0.95), needed_seeds(1.0, 1.0, 0.99)
    assert found is not None
    assert strict is not None
    assert found < strict


pairs = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=20)


@given(pairs)
def test_correlations_are_those_of_scipy(rows: list[tuple[int, int]]):
    x, y = [float(a) for a, _ in rows], [float(b) for _, b in rows]
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(correlation("spearman", x, y))
        assert math.isnan(correlation("pearson", x, y))
        return
    assert correlation("spearman", x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)
    assert correlation("pearson", x, y) == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-12)


def test_a_correlation_of_too_little():
    assert math.isnan(correlation("pearson", [1.0], [2.0]))
    assert math.isnan(correlation("spearman", [], []))
    assert correlation("pearson", [1.0, 2.0], [5.0, 4.0]) == pytest.approx(-1)


def test_fishers_interval_is_that_of_scipy():
    x, y = [1.0, 2, 3, 4, 5, 6, 7], [2.0, 1, 4, 3, 7, 5, 9]
    found = correlation_interval("pearson", correlation("pearson", x, y), 7, 0.95)
    assert (found.low, found.high) == pytest.approx(tuple(stats.pearsonr(x, y).confidence_interval(0.95)), rel=1e-10)
    assert found.p == pytest.approx(2 * stats.norm.sf(math.atanh(found.estimate) * 2))
    assert fisher_error("pearson", 0.9, 7) == 0.5
    assert fisher_error("spearman", 0.8, 7) == pytest.approx(0.5 * math.sqrt(1.32))


def test_a_bound_is_taken_off():
    plain, less = correlation_interval("spearman", 0.9, 12, 0.95), correlation_interval("spearman", 0.9, 12, 0.95, bound=0.8)
    assert (less.estimate, less.low, less.high) == pytest.approx((0.9 - 0.8, plain.low - 0.8, plain.high - 0.8))
    z = (math.atanh(0.9) - math.atanh(0.8)) / fisher_error("spearman", 0.9, 12)
    assert less.p == pytest.approx(2 * stats.norm.sf(z))
    assert less.distance == pytest.approx(math.atanh(0.9) - math.atanh(0.8))
    assert less.deviation == fisher_error("spearman", 0.9, 12)


def test_a_perfect_order_of_few_pairs_is_no_proof_and_of_many_is():
    assert correlation_interval("spearman", 1.0, 4, 0.95).low < 0
    found = correlation_interval("spearman", 1.0, 20, 0.95, bound=0.9)
    assert found.low > 0
    assert found.high == pytest.approx(0.1)
    assert fisher(1.0, 4) == pytest.approx(math.atanh(1 - 3 / 60))
    assert fisher(-1.0, 4) == -fisher(1.0, 4)
    assert fisher(0.5, 4) == math.atanh(0.5)


def test_bounds_at_the_edge_and_beyond():
    assert correlation_interval("spearman", 1.0, 20, 0.95, bound=1.0).p == 1.0
    assert correlation_interval("spearman", 1.0, 20, 0.95, bound=1.0).high == 0
    beyond = correlation_interval("spearman", 0.5, 20, 0.95, bound=1.5)
    assert beyond.p == 0
    assert beyond.high < 0
    assert correlation_interval("spearman", 0.5, 20, 0.95, bound=-1.5).low > 0


def test_a_spread_between_seeds_widens_the_interval_and_never_narrows_it():
    plain = correlation_interval("pearson", 0.5, 40, 0.95)
    wide = correlation_interval("pearson", 0.5, 40, 0.95, seeds=[0.1, 1.0, 0.2, 0.9, 0.5])
    error = np.std([0.1, 1.0, 0.2, 0.9, 0.5], ddof=1) / math.sqrt(5)
    half = stats.t.ppf(0.975, 4) * error
    assert (wide.low, wide.high) == pytest.approx((math.tanh(math.atanh(0.5) - half), math.tanh(math.atanh(0.5) + half)))
    assert wide.p == pytest.approx(2 * stats.t.sf(math.atanh(0.5) / error, 4))
    assert wide.deviation == pytest.approx(error * math.sqrt(5))
    assert correlation_interval("pearson", 0.5, 40, 0.95, seeds=[0.5, 0.5001, 0.4999]).low == plain.low
    assert correlation_interval("pearson", 0.5, 40, 0.95, seeds=[0.5, math.nan]).low == plain.low
    assert correlation_interval("pearson", 0.5, 40, 0.95, seeds=[0.5]).low == plain.low


def test_fishers_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(2)
    truth = 6 / math.pi * math.asin(0.6 / 2)  # Spearman's of a normal pair with correlation 0.6
    hits = 0
    for _ in range(1500):
        x = generator.normal(size=20)
        y = 0.6 * x + 0.8 * generator.normal(size=20)
        found = correlation_interval("spearman", correlation("spearman", x.tolist(), y.tolist()), 20, 0.95)
        hits += found.low <= truth <= found.high
    assert 0.93 < hits / 1500 < 0.975
