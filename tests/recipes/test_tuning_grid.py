import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.tuning_grid import MOST, REACH, around, between, moved, neighbour

centres = st.tuples(st.sampled_from([1e-4, 3e-4, 0.02, 8e-4, 3.0]), st.sampled_from([0.1, 3.0, 0.25, 0.0]))


def test_the_first_nine_are_the_block_around_the_centre():
    points = around((3e-3, 0.1), 9)
    assert points[0] == (3e-3, 0.1)
    assert sorted(points) == sorted((lr, decay) for lr in (1e-3, 3e-3, 1e-2) for decay in (0.03, 0.1, 0.3))


@given(centres)
def test_a_full_ring_lies_evenly_about_the_centre(centre):
    lr, decay = zip(*around(centre, 9 if centre[1] > 0 else 3), strict=True)
    for values, middle in ((lr, centre[0]), (decay, centre[1])):
        steps = [round(2 * math.log10(value / middle)) if middle else 0 for value in values]
        assert sorted(steps) == sorted(-step for step in steps)
        assert set(steps) == ({-1, 0, 1} if middle else {0})


@given(centres, st.integers(1, MOST - 1))
def test_points_differ_and_a_larger_budget_only_adds(centre, trials):
    trials = trials if centre[1] > 0 else 1 + trials % (2 * REACH)
    points = around(centre, trials)
    assert len(set(points)) == trials
    assert around(centre, trials + 1)[:trials] == points


@given(st.sampled_from([1e-4, 3e-4, 0.02, 8e-4]), st.integers(-6, 6))
def test_a_step_is_half_a_decade_to_two_digits(value, steps):
    assert moved(value, steps) == pytest.approx(value * 10 ** (steps / 2), rel=0.06)
    assert moved(value, 2) == pytest.approx(10 * value)
    assert float(f"{moved(value, steps):.1e}") == moved(value, steps)


def test_without_weight_decay_only_the_rate_is_tried():
    assert sorted(around((1e-3, 0.0), 3)) == [(3e-4, 0.0), (1e-3, 0.0), (3e-3, 0.0)]


@given(centres, st.data())
def test_a_neighbour_is_half_a_decade_away_along_one_axis(centre, data):
    point = data.draw(st.sampled_from(around(centre, 9 if centre[1] > 0 else 3)))
    axis, direction = data.draw(st.sampled_from([0, 1])), data.draw(st.sampled_from([-1, 1]))
    beside = neighbour(centre, point, axis, direction)
    if axis == 1 and centre[1] == 0:
        assert beside is None
        return
    assert beside[1 - axis] == point[1 - axis]
    assert math.log10(beside[axis] / point[axis]) == pytest.approx(direction / 2, abs=0.03)
    assert neighbour(centre, beside, axis, -direction) == point


@given(centres, st.data())
def test_rates_between_are_a_quarter_of_a_decade_away_and_the_same_from_both_sides(centre, data):
    point = data.draw(st.sampled_from(around(centre, 9 if centre[1] > 0 else 3)))
    below, above = between(centre, point)
    for beside, quarter in ((below, -0.25), (above, 0.25)):
        assert beside[1] == point[1]
        assert math.log10(beside[0] / point[0]) == pytest.approx(quarter, abs=0.04)
    assert between(centre, neighbour(centre, point, 0, 1))[0] == above
    assert neighbour(centre, above, 0, -1) == point
    assert neighbour(centre, above, 0, 1) == neighbour(centre, point, 0, 1)
    assert between(centre, above) == []


def test_a_thousand_times_the_centre_has_no_neighbour_beyond():
    assert neighbour((1e-3, 0.1), (1.0, 0.1), 0, 1) is None
    assert neighbour((1e-3, 0.1), (1.0, 0.1), 0, -1) == (0.3, 0.1)


@pytest.mark.parametrize("centre", [(0.0, 0.1), (-1.0, 0.1), (1e-3, -0.1), (float("nan"), 0.1)])
def test_impossible_centres(centre):
    with pytest.raises(ValueError, match="a grid needs lr above 0"):
        around(centre, 3)


@given(centres)
def test_the_grid_ends_a_thousand_times_from_its_centre(centre):
    lr, decay = centre
    most = MOST if decay > 0 else 2 * REACH + 1
    points = around(centre, most)
    assert len(set(points)) == most
    for value, middle in [(point[0], lr) for point in points] + [(point[1], decay) for point in points if decay]:
        assert 0.9e-3 <= value / middle <= 1.1e3
    with pytest.raises(ValueError, match=f"choose trials={most} or fewer"):
        around(centre, most + 1)
