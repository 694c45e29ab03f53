import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import NO_DIFFERENCE, mean_and_sd, paired_difference


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
    found = paired_difference(ours, reference)
    assert found.value == pytest.approx(2.0)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.verdict("max") == NO_DIFFERENCE


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_interval_is_that_of_scipy(count, seed):
    rng = np.random.default_rng(seed)
    ours, reference = rng.normal(size=count), rng.normal(size=count)
    found = paired_difference(pd.Series(ours), pd.Series(reference))
    expected = stats.ttest_rel(ours, reference).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_only_common_seeds_are_compared():
    ours = pd.Series([1.0, 2.0, 100.0], index=[0, 1, 2])
    reference = pd.Series([0.5, 1.0, 50.0, math.nan], index=[0, 1, 7, 2])
    found = paired_difference(ours, reference)
    assert found.seeds == 2
    assert found.value == pytest.approx(0.75)


@pytest.mark.parametrize("seeds", [[7, 8], [1, 7]])
def test_below_two_common_seeds_there_is_no_interval(seeds):
    found = paired_difference(pd.Series([1.0, 2.0]), pd.Series([2.0, 3.0], index=seeds))
    assert found.value == -1.0
    assert math.isnan(found.low)
    assert found.verdict("max") == ""


def test_direction_decides_what_is_better():
    higher = paired_difference(pd.Series([2.0, 2.1, 2.2]), pd.Series([1.0, 1.1, 1.2001]))
    assert (higher.verdict("max"), higher.verdict("min")) == ("better", "worse")


def test_equal_values_show_no_difference():
    assert paired_difference(pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0])).verdict("max") == NO_DIFFERENCE
