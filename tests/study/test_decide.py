"""Planted claims come out as planted, degenerate ones are right, and chance seldom upholds what is not so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from limbeck.study.claims import Name, parse
from limbeck.study.decide import Verdict, decide
from limbeck.study.multiple import holm, holm_confidences
from limbeck.study.statistics import needed_seeds


class Table:
    """Values by the text of their name."""

    def __init__(self, seeds: int = 5, **columns: Sequence[float | None]) -> None:
        self.seeds = list(range(10, 10 + seeds))
        self.columns: Mapping[str, Sequence[float | None]] = {key.replace("_", ".", 1): column for key, column in columns.items()}

    def arms(self) -> list[str]:
        return list(dict.fromkeys(name.partition(".")[0] for name in self.columns))

    def get(self, name: Name) -> Sequence[float | None]:
        return self.columns.get(name.text, [None] * len(self.seeds))


def one(text: str, table: Table, **settings: float) -> Verdict:
    return decide([parse(text)], table, **settings)[0]  # pyright: ignore[reportArgumentType]


GOOD, BAD = [0.90, 0.92, 0.91, 0.93, 0.90], [0.80, 0.83, 0.80, 0.82, 0.81]
PAIR = Table(a_x=GOOD, b_x=BAD)


def test_a_true_claim_holds_with_the_interval_of_the_paired_t_test():
    expected = stats.ttest_rel(GOOD, BAD)
    interval = expected.confidence_interval(0.95)
    found = one("a.x > b.x", PAIR)
    assert (found.verdict, found.seeds, found.confidence, found.needed_seeds) == ("holds", 5, 0.95, None)
    assert (found.estimate, found.low, found.high) == pytest.approx((np.mean(np.subtract(GOOD, BAD)), interval.low, interval.high))
    assert found.p == found.p_adjusted == pytest.approx(expected.pvalue)
    assert found.reason == "The interval lies above 0."
    assert found.text == "a.x > b.x"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("a.x >= b.x", "holds"),
        ("a.x < b.x", "fails"),
        ("a.x <= b.x", "fails"),
        ("b.x < a.x", "holds"),
        ("b.x <= a.x", "holds"),
        ("b.x > a.x", "fails"),
        ("a.x > b.x + 0.05", "holds"),
        ("a.x > b.x + 0.2", "fails"),
        ("a.x > b.x + 0.1", "undecided"),
        ("a.x - b.x > 0.05", "holds"),
        ("b.x < 0.95 * a.x", "holds"),
        ("a.x / b.x > 1.05", "holds"),
        ("abs(b.x - a.x) < 0.05", "fails"),
        ("-a.x < -b.x", "holds"),
        ("max(a.x, b.x) > b.x + 0.05", "holds"),
        ("min(*.x) < 0.85", "holds"),
        ("mean(*.x) > 0.84", "holds"),
        ("mean(a.x, b.x, 1) > 0.89", "holds"),
        ("std(*.x) > 0.05", "holds"),
        ("std(a.x, b.x) < 0.05", "fails"),
        ("mean(a.x) > mean(b.x)", "holds"),
        ("log(a.x) < log(b.x)", "fails"),
        ("sqrt(a.x) > 0.94", "holds"),
        ("1 < a.x + b.x", "holds"),
        ("a.x > std(1)", "holds"),
    ],
)
def test_planted_claims(text: str, verdict: str):
    assert one(text, PAIR).verdict == verdict


def test_a_mean_over_seeds_is_decided_as_its_seeds_are():
    plain, mean = one("a.x > b.x + 0.08", PAIR), one("mean(a.x) > mean(b.x) + 0.08", PAIR)
    assert (mean.estimate, mean.low, mean.high, mean.p) == pytest.approx((plain.estimate, plain.low, plain.high, plain.p))


def test_an_undecided_claim_says_how_many_seeds_would_decide():
    table = Table(a_x=[0.1, 0.3, -0.1, 0.2, 0.0], b_x=[0.0] * 5)
    found = one("a.x > b.x", table)
    assert found.verdict == "undecided"
    expected = needed_seeds(0.1, float(np.std([0.1, 0.3, -0.1, 0.2, 0.0], ddof=1)), 0.95)
    assert found.needed_seeds == expected == 22
    assert found.reason == "The interval contains 0; 22 seeds would decide with power 0.8 if difference and spread stay as they are."
    assert one("a.x < b.x", table).needed_seeds == expected, "it may as well be decided against the claim"


def test_no_number_of_seeds_decides_a_difference_of_zero():
    found = one("a.x > b.x", Table(a_x=[0.1, -0.1, 0.2, -0.2, 0.0], b_x=[0.0] * 5))
    assert (found.verdict, found.needed_seeds) == ("undecided", None)
    assert found.reason == "The interval contains 0, and no number of seeds would decide if the difference stays as small."


def test_needed_seeds_are_more_than_there_are():
    found = one("a.x > b.x", Table(a_x=[1.0, 1.0, 1.0, 1.0, -0.5], b_x=[0.0] * 5))
    assert found.verdict == "undecided"
    assert found.needed_seeds is not None
    assert found.needed_seeds > 5


def test_one_seed_decides_nothing():
    found = one("a.x > b.x", Table(1, a_x=[0.9], b_x=[0.1]))
    assert found.verdict == "undecided"
    assert found.estimate == pytest.approx(0.8)
    assert (found.low, found.high, found.p, found.p_adjusted, found.needed_seeds, found.seeds) == (None, None, None, None, None, 1)
    assert found.reason == "One seed shows no spread, so nothing can be said about others."
    assert one("mean(a.x) > 0", Table(1, a_x=[0.9])).reason == "One seed shows no spread."


def test_no_seed_decides_nothing():
    found = one("a.x > b.x", Table(2, a_x=[0.9, None], b_x=[None, 0.1]))
    assert (found.verdict, found.estimate, found.seeds) == ("undecided", None, 0)
    assert found.reason == "No seed has a value for both sides; a.x is missing in seed 11; b.x is missing in seed 10."
    assert one("a.x / b.x > 1", Table(2, a_x=[1.0, 1.0], b_x=[0.0, 0.0])).reason == (
        "No seed gave a finite number; 2 seeds gave no finite number."
    )


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("a.x > b.x", "fails"), ("a.x < b.x", "fails"), ("a.x >= b.x", "holds"), ("a.x <= b.x", "holds"), ("a.x > b.x + 0.01", "fails")],
)
def test_equality_in_every_seed_is_exact(text: str, verdict: str):
    found = one(text, Table(3, a_x=[0.1, 0.2, 0.3], b_x=[0.1, 0.2, 0.3]))
    assert found.verdict == verdict
    assert found.low == found.high == found.estimate
    if "+" not in text:
        assert (found.estimate, found.p, found.reason) == (0.0, 1.0, "Both sides are equal in every seed.")


def test_a_constant_difference_decides():
    table = Table(3, a_x=[0.11, 0.21, 0.31], b_x=[0.10, 0.20, 0.30], a_parameters=[100.0] * 3, b_parameters=[1000.0] * 3)
    found = one("a.x > b.x", table)
    assert (found.verdict, found.p, found.reason) == ("holds", 0.0, "The difference is the same in every seed.")
    assert found.low == found.high == pytest.approx(0.01)
    assert one("a.x < b.x", table).verdict == "fails"
    assert one("a.x <= b.x", table).verdict == "fails"
    assert one("a.x > b.x + 0.01", table).verdict == "fails", "equal to rounding"
    assert one("a.x >= b.x + 0.01", table).verdict == "holds"
    assert one("a.parameters < 0.2 * b.parameters", table).verdict == "holds"


def test_missing_values_leave_their_seed_out_and_are_told():
    full = one("a.x > b.x", Table(3, a_x=GOOD[:3], b_x=BAD[:3]))
    found = one("a.x > b.x", Table(5, a_x=[*GOOD[:3], None, 0.9], b_x=[*BAD[:3], 0.8, math.nan]))
    assert (found.estimate, found.low, found.high, found.seeds) == (full.estimate, full.low, full.high, 3)
    assert found.reason == "The interval lies above 0; a.x is missing in seed 13; b.x is missing in seed 14."


def test_what_is_no_finite_number_leaves_its_seed_out():
    found = one("a.x / b.x > 1", Table(3, a_x=[2.0, 2.1, 2.2], b_x=[1.0, 0.0, 1.0]))
    assert (found.verdict, found.seeds) == ("undecided", 2)
    assert found.reason.endswith("; 1 seed gave no finite number.")
    assert one("log(a.x) > 0", Table(3, a_x=[2.0, 2.1, -1.0])).seeds == 2


def test_seeds_missing_of_one_arm_count_for_all_arms_of_a_mean():
    table = Table(4, a_x=[1.0, 2.0, 3.0, 4.0], b_x=[1.0, None, 3.0, 4.5], c_y=[1.0] * 4)
    found = one("mean(*.x) > 0", table)
    assert found.seeds == 3
    assert found.estimate == pytest.approx((1 + 3 + 4.25) / 3)
    assert "*.x is missing in seed 11" in found.reason
    assert "without c, which never has these values" in found.reason


def test_a_spread_over_seeds_by_the_jackknife():
    steady = Table(8, a_x=[0.5 + 0.001 * i for i in range(8)], b_x=[0.5 + 0.1 * (-1) ** i * (1 + i / 20) for i in range(8)])
    found = one("std(a.x) < std(b.x)", steady)
    assert (found.verdict, found.seeds) == ("holds", 8)
    # by hand: pseudo-values of the difference of the two deviations
    a, b = (np.asarray(steady.columns[name], dtype=float) for name in ("a.x", "b.x"))

    def gap(keep: list[int]) -> float:
        return float(a[keep].std(ddof=1) - b[keep].std(ddof=1))

    pseudo = [8 * gap(list(range(8))) - 7 * gap([j for j in range(8) if j != i]) for i in range(8)]
    low, high = stats.t.interval(0.95, 7, loc=np.mean(pseudo), scale=stats.sem(pseudo))
    assert (found.low, found.high) == pytest.approx((low, high))
    few = one("std(a.x) < std(b.x)", Table(2, a_x=[1.0, 2.0], b_x=[1.0, 3.0]))
    assert (few.verdict, few.reason) == ("undecided", "Too few seeds, or not a finite number without one of them.")
    assert few.estimate == pytest.approx(-math.sqrt(0.5))


def test_a_spread_against_a_number_by_chi_square():
    table = Table(a_x=GOOD)
    assert one("std(a.x) < 0.1", table).verdict == "holds"
    assert one("0.1 > std(a.x)", table).verdict == "holds"
    assert one("std(a.x) > 0.2 / 2", table).verdict == "fails"
    assert one("std(a.x) > 0", table).verdict == "holds"
    found, flipped = one("std(a.x) > 0.01", table), one("0.01 < std(a.x)", table)
    assert found.verdict == flipped.verdict == "undecided"
    low = np.std(GOOD, ddof=1) * math.sqrt(4 / stats.chi2.ppf(0.975, 4)) - 0.01
    assert found.low == pytest.approx(low)
    assert flipped.high == pytest.approx(-low)
    assert found.needed_seeds == flipped.needed_seeds
    assert found.needed_seeds is not None
    few = one("std(log(a.x)) < 1", Table(2, a_x=[1.0, -1.0]))
    assert (few.verdict, few.reason) == ("undecided", "Too few seeds gave a finite number.")
    assert one("std(a.x) < 1", Table(1, a_x=[1.0])).reason == "One seed shows no spread."


def arms(rho: float, *, count: int = 6, seeds: int = 5, seed: int = 0) -> Table:
    generator = np.random.default_rng(seed)
    columns: dict[str, Sequence[float | None]] = {}
    for arm in range(count):
        x = generator.normal(size=seeds)
        columns[f"m{arm}_x"] = x.tolist()
        columns[f"m{arm}_y"] = (rho * x + math.sqrt(1 - rho**2) * generator.normal(size=seeds)).tolist()
    return Table(seeds, **columns)


def test_a_correlation_over_all_arms_and_seeds_is_that_of_scipy():
    table = arms(0.9)
    x = [value for arm in table.arms() for value in table.columns[f"{arm}.x"]]
    y = [value for arm in table.arms() for value in table.columns[f"{arm}.y"]]
    found = one("spearman(*.x, *.y) > 0.5", table)
    assert found.estimate == pytest.approx(float(np.asarray(stats.spearmanr(x, y))[0]) - 0.5)
    assert found.verdict == "holds"
    assert "over 30 pairs" in found.reason
    assert one("pearson(*.x, *.y) > 0", table).estimate == pytest.approx(float(np.asarray(stats.pearsonr(x, y))[0]))
    assert one("spearman(*.x, *.y) < 0.5", table).verdict == "fails"
    assert one("spearman(*.x, *.y) > 0.999", table).verdict == "fails"
    assert one("spearman(*.x, *.y) > 1 / 2", table) == Verdict("spearman(*.x, *.y) > 1 / 2", *list(vars(found).values())[1:])


def test_a_correlation_on_the_right_mirrors_the_interval():
    table = arms(0.9)
    left, right = one("spearman(*.x, *.y) > 0.5", table), one("0.5 < spearman(*.x, *.y)", table)
    assert (right.verdict, right.p) == (left.verdict, left.p)
    assert left.high is not None
    assert left.low is not None
    assert (right.estimate, right.low, right.high) == (-left.estimate, -left.high, -left.low)  # pyright: ignore[reportOptionalOperand]


def test_an_undecided_correlation_says_how_many_seeds():
    found = one("spearman(*.x, *.y) > 0", arms(0.2, seed=1))
    assert found.verdict == "undecided"
    assert found.needed_seeds is None or found.needed_seeds > 5


def test_correlations_leave_single_pairs_out_and_need_four():
    table = arms(0.9, count=2, seeds=3)
    table.columns = {**table.columns, "m0.x": [None, 1.0, 2.0]}
    found = one("spearman(*.x, *.y) > 0", table)
    assert "over 5 pairs" in found.reason
    table.columns = {**table.columns, "m1.y": [None, None, 2.0]}
    assert one("spearman(*.x, *.y) > 0", table).reason == "A correlation needs 4 pairs, found 3."
    flat = Table(3, a_x=[1.0] * 3, b_x=[1.0] * 3, a_y=[1.0, 2, 3], b_y=[2.0, 3, 1])
    assert one("spearman(*.x, *.y) > 0", flat).reason.startswith("One side does not vary")


def test_a_correlation_over_the_seeds_of_an_arm_and_within_a_larger_expression():
    x = [float(i) for i in range(12)]
    table = Table(12, a_x=x, a_y=[value + 0.1 * (-1) ** i for i, value in enumerate(x)], b_y=[(-1.0) ** i for i in range(12)])
    assert one("spearman(a.x, a.y) > 0.8", table).verdict == "holds"
    assert one("pearson(a.x, a.y) > pearson(a.x, b.y) + 0.2", table).verdict == "holds"
    assert one("spearman(a.x, a.y) + 0 > 1.2", table).verdict == "fails"


def test_one_seed_with_many_arms_has_a_correlation():
    table = arms(0.95, count=20, seeds=1)
    found = one("spearman(*.x, *.y) > 0.5", table)
    assert (found.verdict, found.seeds) == ("holds", 1)


def test_holm_over_the_claims():
    table = Table(a_x=GOOD, b_x=BAD, c_x=[0.9, 0.93, 0.9, 0.935, 0.901], d_x=[0.88, 0.95, 0.9, 0.92, 0.91])
    claims = [parse(text) for text in ("a.x > b.x", "c.x > a.x", "d.x > a.x")]
    plain, corrected = decide(claims, table, correction="none"), decide(claims, table)
    chances = [verdict.p or 0.0 for verdict in plain]
    assert [verdict.p for verdict in corrected] == chances
    assert [verdict.p_adjusted for verdict in plain] == chances
    assert [verdict.confidence for verdict in plain] == [0.95] * 3
    assert [verdict.p_adjusted for verdict in corrected] == pytest.approx(holm(chances))
    assert [verdict.confidence for verdict in corrected] == pytest.approx(holm_confidences(chances, 0.95))
    for verdict, column in zip(corrected, (("a.x", "b.x"), ("c.x", "a.x"), ("d.x", "a.x")), strict=True):
        left, right = (table.columns[name] for name in column)
        expected = stats.ttest_rel(left, right).confidence_interval(verdict.confidence)
        assert (verdict.low, verdict.high) == pytest.approx(tuple(expected))


def test_one_that_cannot_be_decided_counts_in_the_correction():
    table = Table(a_x=GOOD, b_x=BAD)
    found = decide([parse("a.x > b.x"), parse("c.x > a.x")], table)
    assert found[0].confidence == pytest.approx(0.975)
    assert found[1].p_adjusted is None
    assert decide([], table) == []


columns = st.integers(2, 7).flatmap(
    lambda seeds: st.lists(st.lists(st.floats(-5, 5, width=16), min_size=seeds, max_size=seeds), min_size=4, max_size=4)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine says nothing of what is tested
@given(columns, st.sampled_from(["holm", "none"]))
def test_verdicts_agree_with_their_intervals_and_corrected_p(data: list[list[float]], correction: str):
    table = Table(len(data[0]), a_x=data[0], b_x=data[1], c_x=data[2], d_x=data[3])
    claims = [parse(text) for text in ("a.x > b.x", "a.x < c.x", "b.x >= d.x", "c.x <= d.x")]
    for claim, found in zip(claims, decide(claims, table, correction=correction), strict=True):  # pyright: ignore[reportArgumentType]
        assert found.low is not None
        assert found.high is not None
        assert found.p_adjusted is not None
        up = claim.comparison.startswith(">")
        if found.low == found.high:
            continue
        assert (found.verdict == "holds") == (found.low > 0 if up else found.high < 0)
        assert (found.verdict == "fails") == (found.high < 0 if up else found.low > 0)
        assert (found.verdict == "undecided") == (found.low <= 0 <= found.high)
        if abs(found.p_adjusted - 0.05) > 1e-9:
            assert (found.verdict != "undecided") == (found.p_adjusted <= 0.05)
        assert found.needed_seeds is None or (found.verdict == "undecided" and found.needed_seeds > found.seeds)


@given(columns)
def test_turned_claims_have_turned_verdicts(data: list[list[float]]):
    table = Table(len(data[0]), a_x=data[0], b_x=data[1])
    more, less = one("a.x > b.x", table), one("b.x < a.x", table)
    assert more.verdict == less.verdict
    against = one("a.x < b.x", table)
    if more.verdict == "holds":
        assert against.verdict == "fails"
    if more.verdict == "undecided":
        assert against.verdict == "undecided"


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("a.x > b.x", 0.025),
        ("mean(a.x) > mean(b.x)", 0.025),
        ("std(a.x) < std(b.x)", 0.05),
        ("std(a.x) < 1", 0.025),
        ("spearman(*.x, *.y) > 0", 0.025),
    ],
)
def test_chance_seldom_upholds_a_claim_about_nothing(text: str, allowed: float):
    """Five seeds of arms that do not differ: `holds` at most as often as allowed (and three standard errors of the simulation)."""
    claim, rounds, generator = parse(text), 600, np.random.default_rng(5)
    draws = generator.normal(size=(rounds, 6, 5))
    held = 0
    for draw in draws:
        a, b, c, d, e, f = draw.tolist()
        held += decide([claim], Table(a_x=a, b_x=b, c_x=c, a_y=d, b_y=e, c_y=f))[0].verdict == "holds"
    assert held / rounds <= allowed + 3 * math.sqrt(allowed * (1 - allowed) / rounds)
    assert held > 0


def test_chance_seldom_upholds_any_of_ten_claims():
    claims = [parse(f"m{i}.x > b.x") for i in range(10)]
    generator, wrong, rounds = np.random.default_rng(6), 0, 300
    for _ in range(rounds):
        table = Table(b_x=[0.0] * 5, **{f"m{i}_x": generator.normal(size=5).tolist() for i in range(10)})
        wrong += any(found.verdict != "undecided" for found in decide(claims, table))
    assert wrong / rounds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


def test_as_many_seeds_as_needed_decide_four_times_in_five():
    generator = np.random.default_rng(7)
    needed = needed_seeds(0.01, 0.02, 0.95)
    assert needed == 34
    rounds = 400
    decided = sum(
        one("a.x > 0", Table(needed, a_x=generator.normal(0.01, 0.02, size=needed).tolist())).verdict == "holds" for _ in range(rounds)
    )
    assert decided / rounds == pytest.approx(0.8, abs=0.06)
