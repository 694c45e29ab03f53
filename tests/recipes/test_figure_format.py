import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.figure_format import Unit, decimals

PERCENT = Unit(100.0, "%", " points")


@pytest.mark.parametrize(
    ("half", "places"), [(0.0123, 3), (0.035, 3), (0.04, 2), (0.15, 2), (0.8, 1), (1.4, 1), (3.5, 1), (4.2, 0), (50, 0)]
)
def test_the_decimals_of_an_error_as_the_particle_data_group_rounds_it(half, places):
    assert decimals(half) == places


def test_figures_as_people_say_them():
    assert PERCENT.figure(0.9604, 0.9562, 0.9646) == "96.0 ± 0.4%"
    assert Unit().figure(33.5079, 32.7, 34.3) == "33.5 ± 0.8"
    assert PERCENT.figure(0.88, math.nan, math.nan) == "88.0%"
    assert Unit().figure(math.nan, math.nan, math.nan) == "-"


def test_differences_have_points_and_never_hide_their_side_of_zero():
    assert PERCENT.difference(0.0144, 0.0043, 0.0245) == "+1.4 points [+0.4, +2.5]"
    assert Unit().difference(-2.07, -3.1, -1.03) == "-2.1 [-3.1, -1.0]"
    assert PERCENT.difference(0.0018, -0.0400, 0.0436) == "+0.2 points [-4.0, +4.4]"
    assert PERCENT.difference(0.05, 0.0004, 0.0996) == "+5.00 points [+0.04, +9.96]"
    assert PERCENT.difference(0.01, math.nan, math.nan) == "+1.0 points"


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_the_text_of_a_difference_has_the_signs_of_its_ends(value, half):
    text = Unit().difference(value, value - half, value + half)
    low, high = text.partition("[")[2].rstrip("]").split(", ")
    for end, written in ((value - half, low), (value + half, high)):
        if abs(end) > 1e-5:
            assert math.copysign(1, float(written)) == math.copysign(1, end)
            assert float(written) != 0
