import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.runs.grid import MOST, REACH, around, extended, moved

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


@given(centres, st.integers(1, 12), st.integers(1, 6), st.data())
def test_an_extension_repeats_nothing_and_lies_around_the_best(centre, trials, more, data):
    tried = around(centre, trials)
    best = data.draw(st.sampled_from(tried))
    added = extended(centre, tried, best, more)
    near = [p for p in tried if abs(math.log10(p[0] / best[0])) < REACH / 2 + 0.2]
    left = more if centre[1] > 0 else 2 * REACH + 1 - len(near)  # without decay, few are within reach
    assert len(set(added)) == len(added) == min(more, left)
    assert not set(added) & set(tried)
    if centre[1] > 0 and best != centre and trials == 9:
        nearest = added[0]
        away = [abs(math.log10(a / b)) for a, b in zip(nearest, best, strict=True)]
        assert max(away) < 0.6  # a neighbour of the best, since it has one that was not tried


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
