import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.statistics.tuning_curves import tuning_curve


@pytest.mark.parametrize(("goal", "pick", "worst"), [("max", max, 0.0), ("min", min, 9.0)])
def test_expected_is_that_of_all_draws_with_replacement(goal, pick, worst):
    values = [0.3, 0.9, 0.5, 0.5, 0.8]
    curve = tuning_curve(values, goal, [1, 2, 3, 4], worst=worst)
    for k, expected in zip(curve["k"], curve["expected"], strict=True):
        draws = [pick(draw) for draw in itertools.product(values, repeat=k)]
        assert expected == pytest.approx(sum(draws) / len(draws))


def test_by_hand():
    # of 0 and 1, the best of k draws is 0 only if all are 0: expected 1 - 1 / 2^k
    curve = tuning_curve([0.0, 1.0], "max", [1, 2, 3], worst=0.0)
    assert curve["expected"].tolist() == pytest.approx([1 / 2, 3 / 4, 7 / 8])


def test_a_diverged_trial_counts_as_the_worst_value():
    values = [0.8, math.nan, 0.9, math.nan]
    curve = tuning_curve(values, "max", [1, 2], worst=0.1)
    # a draw is 0.9 with 1/4, 0.8 with 1/4, 0.1 with 1/2; of two, 0.9 with 7/16, 0.8 with 5/16, 0.1 with 4/16
    assert curve["expected"].tolist() == pytest.approx([0.475, (7 * 0.9 + 5 * 0.8 + 4 * 0.1) / 16])
    # so does one that ended no better than that
    assert tuning_curve([0.8, 0.0, 0.9, 0.1], "max", [1, 2], worst=0.1).equals(curve)
    mirrored = tuning_curve([-value for value in values], "min", [1, 2], worst=-0.1)
    assert mirrored["expected"].tolist() == pytest.approx((-curve["expected"]).tolist())


values = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(values, st.sampled_from(["max", "min"]))
def test_more_trials_are_never_expected_worse_and_the_band_holds_the_curve(trials, goal):
    curve = tuning_curve(trials, goal, [1, 2, 5, 20], worst=0 if goal == "max" else 1, best=1 if goal == "max" else 0)
    assert (curve["low"] <= curve["expected"] + 1e-12).all()
    assert (curve["expected"] <= curve["high"] + 1e-12).all()
    sign = 1 if goal == "max" else -1
    for column in ("expected", "low", "high"):
        assert (np.diff(sign * curve[column]) >= -1e-12).all()
    assert curve[["low", "high"]].to_numpy().min() >= -1e-12
    assert curve[["low", "high"]].to_numpy().max() <= 1 + 1e-12


def test_without_a_bound_the_better_side_is_open():
    for goal, worst, closed, opened in (("max", 0.0, "low", "high"), ("min", 1.0, "high", "low")):
        curve = tuning_curve([0.5, 0.6, 0.7], goal, [1, 3], worst=worst)
        assert np.isfinite(curve[closed]).all()
        assert np.isinf(curve[opened]).all()


@pytest.mark.slow
def test_the_band_covers_the_truth_at_least_as_often_as_it_says_and_not_another():
    # trials uniform on 0 to 1: the best of k is k / (k + 1) on average; of trials uniform on 0 to c, c times that
    ks, repeats, right, wrong = [1, 2, 4, 8], 25, 0, 0
    truth = np.array([k / (k + 1) for k in ks])
    for trials in np.random.default_rng(3).uniform(size=(repeats, 12)):
        for scale in (1.0, 0.3):
            band = tuning_curve(scale * trials, "max", ks, confidence=0.8, worst=0.0, best=1.0)
            covered = bool(((band["low"] <= truth) & (truth <= band["high"])).all())
            right, wrong = right + (covered and scale == 1), wrong + (covered and scale < 1)
    assert right / repeats >= 0.8
    assert wrong / repeats <= 0.2


def test_more_confidence_is_a_wider_band():
    wide, narrow = (tuning_curve([0.2, 0.5, 0.7], "max", [2], c, worst=0, best=1) for c in (0.95, 0.5))
    assert wide["low"].item() < narrow["low"].item() < narrow["high"].item() < wide["high"].item()


def test_the_same_trials_in_any_order_give_the_same_numbers():
    one = tuning_curve([0.5, 0.7, 0.7, math.nan], "max", [1, 2, 3], worst=0.0, best=1.0)
    two = tuning_curve([0.7, math.nan, 0.7, 0.5], "max", [1, 2, 3], worst=0.0, best=1.0)
    assert one.equals(two)


def test_no_trials_and_an_impossible_one_are_refused():
    with pytest.raises(ValueError, match="non-empty"):
        tuning_curve([], "max", [1], worst=0.0)
    with pytest.raises(ValueError, match=r"1\.2"):
        tuning_curve([1.2], "max", [1], worst=0.0, best=1.0)


def test_opda_is_loaded_only_where_a_curve_is_asked_for():
    code = "import sys, reports.statistics.tuning_curves; sys.exit('opda' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
