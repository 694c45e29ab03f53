import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.statistics.scoring import (
    compared_alike,
    mean_ranks,
    performance_profiles,
    points,
    profile_scores,
    rank_agreement,
    ratios_to_best,
    speedup,
    steps_to_target,
)

NEVER = math.inf


def curve(*means, every=10):
    steps = [every * place for place in range(1, len(means) + 1)]
    return points(pd.DataFrame({"step": steps, "mean": means}, dtype=float))


def table(rows, tasks=None):
    rows = np.asarray(rows, dtype=float)
    return pd.DataFrame(rows, index=tasks or [f"task {i}" for i in range(len(rows))]).rename(columns="optim {}".format)


# steps to target


def test_between_two_measurements_the_curve_is_a_straight_line():
    # 0.4 at step 20, 0.8 at step 30: 0.5 is a quarter of the way
    assert steps_to_target(curve(0.2, 0.4, 0.8), 0.5, "max") == pytest.approx(22.5)
    assert steps_to_target(curve(8.0, 4.0, 2.0), 3.5, "min") == pytest.approx(22.5)


def test_the_first_crossing_counts():
    assert steps_to_target(curve(0.2, 0.6, 0.3, 0.9), 0.6, "max") == 20.0


def test_a_target_reached_at_once_has_the_step_of_the_first_measurement():
    assert steps_to_target(curve(0.7, 0.8), 0.5, "max") == 10.0


@pytest.mark.parametrize(("goal", "target"), [("max", 0.81), ("min", 0.19)])
def test_never_reached_is_none(goal, target):
    assert steps_to_target(curve(0.2, 0.8), target, goal) is None
    assert steps_to_target(curve(), target, goal) is None
    assert steps_to_target(curve(0.2, 0.8), math.nan, goal) is None


def test_values_that_are_not_finite_are_passed_over():
    assert steps_to_target(curve(0.2, math.nan, math.inf, 0.8), 0.5, "max") == pytest.approx(25.0)


levels = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8)


@given(levels, st.floats(-1e3, 1e3))
def test_crossing_is_where_numpy_interpolates_the_target(values, target):
    reached = steps_to_target(curve(*values), target, "max")
    assert (reached is None) == (max(values) < target)
    if reached is not None and reached > 10:
        assert np.interp(reached, *curve(*values)) == pytest.approx(target, abs=1e-6)
    assert reached == steps_to_target(curve(*(-value for value in values)), -target, "min")


# speed-up


def test_speedup_by_hand():
    # the reference ends at 0.8, at step 40; the other is at 0.7 at step 10 and at 0.9 at step 20: 0.8 at step 15
    against_reference = speedup(curve(0.2, 0.4, 0.6, 0.8), curve(0.7, 0.9, 0.9, 0.9), "max")
    assert (against_reference.target, against_reference.reference_step, against_reference.reached) == (0.8, 40, True)
    assert (against_reference.step, against_reference.factor) == pytest.approx((15, 40 / 15))


def test_a_reference_that_wavers_is_judged_by_where_it_first_was_as_good_as_at_its_end():
    # it passes its last value, 3, half-way between 4 at step 10 and 2 at step 20
    assert speedup(curve(4.0, 2.0, 3.0), curve(5.0, 4.0, 3.0), "min").factor == pytest.approx(15 / 30)


def test_never_reached_is_said():
    against_reference = speedup(curve(0.2, 0.8), curve(0.3, 0.7), "max")
    assert (
        against_reference.reached,
        against_reference.step,
        against_reference.factor,
        against_reference.reference_step,
    ) == (
        False,
        math.inf,
        0.0,
        20,
    )


@pytest.mark.parametrize(("reference", "other"), [(curve(), curve(0.5)), (curve(0.5), curve()), (curve(), curve())])
def test_without_a_curve_nothing_is_known(reference, other):
    against_reference = speedup(reference, other, "max")
    assert not against_reference.reached
    assert math.isnan(against_reference.step)
    assert math.isnan(against_reference.factor)


def test_from_step_zero():
    start, later = ((np.array([0.0, 10.0]), np.array(means)) for means in ([9.0, 9.0], [5.0, 9.0]))
    assert speedup(start, start, "max").factor == 1
    assert speedup(later, start, "max").factor == math.inf
    assert speedup(start, later, "max").factor == 0


@given(levels, st.sampled_from(["max", "min"]))
def test_nobody_is_faster_than_itself(values, goal):
    assert speedup(curve(*values), curve(*values), goal).factor == 1


@given(levels, levels)
def test_factors_of_two_units_of_time_are_the_same(ours, theirs):
    one, two = (speedup(curve(*theirs, every=every), curve(*ours, every=every), "max") for every in (10, 40))
    assert one.factor == pytest.approx(two.factor)


# performance profiles

# Ratios to the best: task 0 (best 10): 1, 2, 5. Task 1 (best 30): never, 1, 1.5. Task 2: nobody.
TIMES = table([[10, 20, 50], [NEVER, 30, 45], [NEVER, math.nan, NEVER]])


def test_ratios_by_hand():
    never = [math.inf] * 3
    assert ratios_to_best(TIMES).to_numpy().tolist() == [[1, 2, 5], [math.inf, 1, 1.5], never]


def test_profiles_by_hand():
    result = performance_profiles(TIMES, [1, 1.5, 2, 4, 5, 100])
    assert list(result.index) == [1, 1.5, 2, 4, 5, 100]
    assert result["optim 0"].tolist() == pytest.approx([1 / 3] * 6)
    assert result["optim 1"].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert result["optim 2"].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_scores_by_hand():
    # the integral from 1 to 4 over 3, by task: (4 - ratio) / 3: task 0: 1, 2/3, 0; task 1: 0, 1, 2.5/3; task 2: 0, 0, 0
    assert profile_scores(TIMES).tolist() == pytest.approx([1 / 3, (2 / 3 + 1) / 3, 2.5 / 9])
    # up to 2: task 0: 1, 0, 0; task 1: 0, 1, 1/2
    assert profile_scores(TIMES, tau_max=2).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 6])


def test_a_task_that_nobody_reached_lowers_all_alike():
    without = TIMES.iloc[:2]
    assert profile_scores(TIMES).tolist() == pytest.approx((profile_scores(without) * 2 / 3).tolist())


def test_no_tasks_and_impossible_times():
    assert profile_scores(TIMES.iloc[:0]).isna().all()
    assert performance_profiles(TIMES.iloc[:0], [1, 2]).isna().all(axis=None)
    for impossible in (0, -3):
        with pytest.raises(ValueError, match="not above zero"):
            profile_scores(table([[1, impossible]]))


times = st.one_of(st.floats(0.01, 1e4), st.just(NEVER), st.just(math.nan))
tables = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda size: st.lists(st.lists(times, min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0])
)
TAUS = np.linspace(1, 4, 3001)


@given(tables)
def test_a_profile_rises_with_tau_and_its_area_is_the_score(rows):
    profiles, scores = performance_profiles(table(rows), TAUS), profile_scores(table(rows))
    assert (profiles.diff().iloc[1:] >= 0).all(axis=None)
    assert profiles.to_numpy().min() >= 0
    assert profiles.to_numpy().max() <= 1
    assert scores.between(0, 1).all()
    area = np.trapezoid(profiles, TAUS, axis=0) / 3
    assert scores.to_numpy() == pytest.approx(area, abs=1e-3)  # a third of a step of the grid, at most


@given(tables, st.randoms())
def test_neither_the_names_nor_the_order_of_tasks_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    renamed = table(shuffled, [f"z{i}" for i in range(len(rows))])
    assert profile_scores(renamed).tolist() == pytest.approx(profile_scores(table(rows)).tolist())
    one, two = performance_profiles(renamed, [1, 2, 3]), performance_profiles(table(rows), [1, 2, 3])
    assert one.to_numpy() == pytest.approx(two.to_numpy())


@given(tables, st.integers(-8, 8), st.floats(0.1, 10))
def test_a_task_s_unit_of_time_does_not_matter(rows, power, factor):
    doubled = [[value * 2.0**power for value in rows[0]], *rows[1:]]  # a power of two changes no ratio by rounding
    assert performance_profiles(table(doubled), TAUS[::100]).equals(performance_profiles(table(rows), TAUS[::100]))
    scaled = [[value * factor for value in rows[0]], *rows[1:]]
    assert profile_scores(table(scaled)).tolist() == pytest.approx(profile_scores(table(rows)).tolist())


# mean ranks


def test_ranks_by_hand():
    finals = table([[0.9, 0.8, 0.9, 0.7], [3.0, 2.0, math.nan, 1.0], [5.0, math.nan, math.nan, 4.0]], ["a", "b", "c"])
    # a, higher is better: 1.5, 3, 1.5, 4; b, lower: 3, 2, 4, 1; c, lower: 2, 3.5, 3.5, 1
    result = mean_ranks(finals, {"a": "max", "b": "min", "c": "min"})
    assert result.tolist() == pytest.approx([6.5 / 3, 8.5 / 3, 9 / 3, 6 / 3])
    assert list(result.index) == ["optim 0", "optim 1", "optim 2", "optim 3"]


@given(tables)
def test_ranks_are_shared_out_whole_and_follow_the_goal(rows):
    width = len(rows[0])
    goals = {f"task {i}": "min" for i in range(len(rows))}
    ranks = mean_ranks(table(rows), goals)
    assert ranks.sum() == pytest.approx(width * (width + 1) / 2)
    assert ranks.between(1, width).all()
    mirrored = mean_ranks(-table(rows), dict.fromkeys(goals, "max"))
    assert mirrored.tolist() == ranks.tolist()


def test_who_ran_on_few_tasks_is_left_out_and_so_is_a_task_that_few_ran_on():
    tasks = [f"task {number}" for number in range(5)]
    ran = pd.DataFrame(True, index=tasks, columns=["adamw", "lion", "radam", "lion (int8)"])
    ran.loc[tasks[1:], "lion (int8)"] = False
    ran.loc["task 4", "radam"] = False
    alike = compared_alike(ran)
    assert (list(alike.index), list(alike.columns)) == (tasks[:4], ["adamw", "lion", "radam"])


@given(st.data(), st.integers(1, 6), st.integers(1, 6))
def test_all_that_is_compared_ran_and_no_full_row_or_column_is_lost(data, tasks, optimizers):
    cells = data.draw(
        st.lists(st.lists(st.booleans(), min_size=optimizers, max_size=optimizers), min_size=tasks, max_size=tasks)
    )
    ran = pd.DataFrame(cells)
    alike = compared_alike(ran)
    assert alike.all(axis=None)
    assert alike.size >= ran.all().sum() * len(ran)
    if alike.size:
        assert set(ran.columns[ran.all()]) <= set(alike.columns)
        assert set(ran.index[ran.all(axis=1)]) <= set(alike.index)


def test_agreement_is_kendalls_tau_over_pairs_of_tasks():
    """By hand: orders a > b > c, the same with a goal to be lowered, and c > b > a: tau 1, -1 and -1."""
    finals = pd.DataFrame({"a": [0.9, 1.0, 0.1], "b": [0.8, 2.0, 0.2], "c": [0.7, 3.0, 0.3]}, index=["x", "y", "z"])
    goals = {"x": "max", "y": "min", "z": "max"}
    assert rank_agreement(finals, goals) == pytest.approx(-1 / 3)
    assert rank_agreement(finals.loc[["x", "y"]], goals) == 1
    assert math.isnan(rank_agreement(finals.loc[["x"]], goals))
