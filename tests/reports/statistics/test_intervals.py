import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.protocol import choice_variance
from reports.statistics.intervals import (
    NO_DIFFERENCE,
    half_width,
    holm,
    mean_and_sd,
    mean_interval,
    paired_difference,
    prediction_interval,
)

# Hours of sleep gained by ten patients with two drugs: the data of Student (1908), sleep in R. What R prints:
# t.test(extra ~ group, sleep, paired = TRUE): t = -4.0621, df = 9, p-value = 0.002833,
# 95 percent confidence interval -2.4598858 to -0.7001142, mean of the differences -1.58
FIRST = pd.Series([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SECOND = pd.Series([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_mean_and_sample_sd():
    mean, sd = mean_and_sd(pd.Series([1.0, 2.0, 3.0, math.nan]))
    assert (mean, sd) == (2.0, 1.0)
    mean, sd = mean_and_sd(pd.Series([4.0]))
    assert mean == 4.0
    assert math.isnan(sd)
    assert all(map(math.isnan, mean_and_sd(pd.Series([], dtype=float))))


def test_interval_by_hand():
    # differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.302653
    ours, reference = pd.Series([11.0, 22.0, 33.0]), pd.Series([10.0, 20.0, 30.0])
    difference = paired_difference(ours, reference)
    assert difference.value == pytest.approx(2.0)
    assert difference.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert difference.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert difference.verdict("max") == NO_DIFFERENCE


def test_prediction_interval_by_hand_and_by_its_coverage():
    # 2, 4, 4, 6: mean 4, sd sqrt(8 / 3), t(0.975, 3) = 3.182446
    half = 3.182446 * math.sqrt(8 / 3) * math.sqrt(1 + 1 / 4)
    found = prediction_interval(pd.Series([2.0, 4.0, math.nan, 4.0, 6.0]))
    assert found == pytest.approx((4 - half, 4 + half), abs=1e-5)
    draws = np.random.default_rng(0).normal(3, 2, size=(1000, 6))
    ends = [prediction_interval(pd.Series(draw[:5])) for draw in draws]
    covered = np.mean([low <= draw[5] <= high for (low, high), draw in zip(ends, draws, strict=True)])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 1000)
    assert all(map(math.isnan, prediction_interval(pd.Series([1.0]))))


def test_student_s_sleep_data():
    difference = paired_difference(FIRST, SECOND)
    assert (difference.value, difference.seeds) == (pytest.approx(-1.58), 10)
    assert (difference.low, difference.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)
    assert difference.p == pytest.approx(0.002833, abs=5e-7)
    assert difference.verdict("max") == "worse"


def test_mean_interval_by_hand():
    # 2, 4, 4, 6: mean 4, sd sqrt(8 / 3), standard error sqrt(2 / 3), t(0.975, 3) = 3.182446
    mean, low, high = mean_interval(pd.Series([2.0, 4.0, math.nan, 4.0, 6.0]))
    assert mean == 4
    assert (low, high) == pytest.approx((4 - 3.182446 * math.sqrt(2 / 3), 4 + 3.182446 * math.sqrt(2 / 3)), abs=1e-6)
    assert mean_interval(pd.Series([3.0, 3.0])) == (3, 3, 3)


def test_a_mean_below_two_values_has_no_interval():
    mean, low, high = mean_interval(pd.Series([4.0]))
    assert mean == 4
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(map(math.isnan, mean_interval(pd.Series([], dtype=float))))


@given(st.integers(2, 12), st.integers(0, 10_000), st.integers(1, 9))
def test_interval_and_p_are_those_of_scipy(count, seed, comparisons):
    rng = np.random.default_rng(seed)
    ours, reference = rng.normal(size=count), rng.normal(size=count)
    difference = paired_difference(pd.Series(ours), pd.Series(reference), comparisons=comparisons)
    test = stats.ttest_rel(ours, reference)
    expected = test.confidence_interval(1 - 0.05 / comparisons)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert difference.p == pytest.approx(test.pvalue)
    assert (difference.verdict("max") == NO_DIFFERENCE) == (test.pvalue * comparisons >= 0.05)


def test_only_common_seeds_are_compared():
    ours = pd.Series([1.0, 2.0, 100.0], index=[0, 1, 2])
    reference = pd.Series([0.5, 1.0, 50.0, math.nan], index=[0, 1, 7, 2])
    difference = paired_difference(ours, reference)
    assert difference.seeds == 2
    assert difference.value == pytest.approx(0.75)


@pytest.mark.parametrize("seeds", [[7, 8], [1, 7]])
def test_below_two_common_seeds_there_is_no_interval(seeds):
    difference = paired_difference(pd.Series([1.0, 2.0]), pd.Series([2.0, 3.0], index=seeds))
    assert difference.value == -1.0
    assert math.isnan(difference.low)
    assert math.isnan(difference.p)
    assert difference.verdict("max") == ""


def test_direction_decides_what_is_better():
    higher = paired_difference(pd.Series([2.0, 2.1, 2.2]), pd.Series([1.0, 1.1, 1.2001]))
    assert (higher.verdict("max"), higher.verdict("min")) == ("better", "worse")


def test_equal_values_show_no_difference():
    difference = paired_difference(pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0]))
    assert (difference.low, difference.high, difference.p) == (0, 0, 1)
    assert difference.verdict("max") == NO_DIFFERENCE


def test_one_and_the_same_difference_is_a_point_and_no_win():
    difference = paired_difference(pd.Series([1.5, 2.5, 0.5]), pd.Series([1.0, 2.0, 0.0]), comparisons=6)
    assert (difference.value, difference.low, difference.high, difference.p) == (0.5, 0.5, 0.5, 0)
    assert difference.verdict("min") == NO_DIFFERENCE  # a spread of zero is the metric's coarseness, not certainty


def test_infinite_values_say_nothing():
    difference = paired_difference(pd.Series([1.0, math.inf]), pd.Series([1.0, 2.0]))
    assert math.isnan(difference.low)
    assert difference.verdict("max") == ""


def test_holm_by_hand_and_as_r_has_it():
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and none below one before it
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") is 0.03 0.06 0.06 0.02
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.6]) == [1, 1]
    assert holm([]) == []


def test_holm_does_not_count_what_was_not_tested():
    result = holm([0.01, math.nan, 0.02])
    assert result[0] == pytest.approx(0.02)
    assert math.isnan(result[1])
    assert result[2] == pytest.approx(0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_stepping_down_rejects(p_values, level):
    rejected = set()
    for step, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] * (len(p_values) - step) > level:
            break
        rejected.add(place)
    adjusted = holm(p_values)
    assert {place for place, p in enumerate(adjusted) if p <= level} == rejected
    assert all(p <= a <= min(1, p * len(p_values)) for p, a in zip(p_values, adjusted, strict=True))


OPTIMIZERS = 6


def differences(rng, tables, seeds, shift=0.0):
    """Return [table, optimizer, seed] differences to one reference, of runs that share the luck of their seed."""
    luck = rng.normal(scale=2, size=(tables, 1, seeds))
    runs = luck + rng.normal(size=(tables, 1 + OPTIMIZERS, seeds))
    return runs[:, 1:] - runs[:, :1] + shift


def share_with_a_win(found, comparisons):
    """Return the share of tables in which at least one optimizer is called better or worse."""
    half = half_width(found, 1 - 0.05 / comparisons)
    return float((abs(found.mean(axis=-1)) > half).any(axis=-1).mean())


@pytest.mark.parametrize("seeds", [3, 5])
def test_where_nothing_differs_few_tables_have_a_winner(seeds):
    tables = 20_000
    difference = differences(np.random.default_rng(seeds), tables, seeds)
    tolerance = 3 * math.sqrt(0.05 * 0.95 / tables)
    assert 0.01 < share_with_a_win(difference, OPTIMIZERS) <= 0.05 + tolerance
    assert share_with_a_win(difference, 1) > 0.1  # what it would be without the correction


def test_tables_of_the_simulation_are_those_that_are_shown():
    difference = differences(np.random.default_rng(0), 60, 3, shift=4.0)
    zeros = pd.Series(np.zeros(3))
    for of_table in difference:
        shown = [paired_difference(pd.Series(of), zeros, comparisons=OPTIMIZERS).verdict("max") for of in of_table]
        assert any(verdict != NO_DIFFERENCE for verdict in shown) == (share_with_a_win(of_table[None], 6) > 0)


def test_a_difference_is_found_more_often_with_more_seeds():
    shares = [
        share_with_a_win(differences(np.random.default_rng(1), 2000, seeds, shift=2.0), OPTIMIZERS)
        for seeds in (2, 3, 5, 10)
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] > 0.99


def test_seeds_added_where_an_interval_is_wide_call_few_equal_optimizers_different():
    """Five seeds, then ten, then fifteen, while the interval is wider than a limit, whichever the limit is."""
    random = np.random.default_rng(0)
    seeds = random.standard_normal((50_000, 15))
    choice = np.sqrt(0.11) * random.standard_normal(50_000)  # the variance of choices on three trial seeds
    most = {}
    for allowance, chosen in ((0.0, 0.0), (choice_variance(3), choice)):
        halves = {n: np.sqrt(1 + allowance * n) * half_width(seeds[:, :n], 0.95) for n in (5, 10, 15)}
        wrong = {n: np.abs(seeds[:, :n].mean(1) + chosen) > halves[n] for n in halves}
        most[allowance] = max(
            np.where(halves[5] <= limit, wrong[5], np.where(halves[10] <= limit, wrong[10], wrong[15])).mean()
            for limit in np.linspace(0.05, 4, 40)
        )
    plain, allowed = most.values()
    assert plain == pytest.approx(0.07, abs=0.005)
    assert allowed < 0.05
