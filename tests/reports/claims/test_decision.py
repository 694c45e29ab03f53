import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.claims.decision import BY_CHANCE, beyond_chance, decide, inside_or_outside

OPPOSITE = {"supported": "contradicted", "contradicted": "supported", "not shown": "not shown", "not run": "not run"}


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=12))
def test_for_and_against_are_treated_alike(signs):
    assert decide([-sign for sign in signs], "")[0] == OPPOSITE[decide(signs, "")[0]]


@pytest.mark.parametrize(
    ("signs", "word"),
    [
        ([], "not run"),
        ([1], "supported"),
        ([-1], "contradicted"),
        ([0], "not shown"),
        ([1, 0], "not shown"),  # no more than half
        ([1, 1, 0], "supported"),
        ([1, 1, 0, 0, 0, 0, 0, 0, 0], "not shown"),
        ([1, 1, 1, 1, 1, -1, 0, 0, 0], "supported"),  # one of nine by chance: 20%
        ([1, 1, 1, 1, 1, -1, -1, 0, 0], "not shown"),  # two of nine: 2.0%, so it depends on the task
    ],
)
def test_verdicts(signs, word):
    assert decide(signs, "")[0] == word


@pytest.mark.parametrize("intervals", [1, 2, 5, 9, 20])
def test_at_the_boundary_chance_decides_in_at_most_one_of_twenty_cases(intervals):
    """By exact enumeration of how many of the intervals are on one side, the others on none."""

    def chance(decided):
        terms = (
            math.comb(intervals, count) * BY_CHANCE**count * (1 - BY_CHANCE) ** (intervals - count)
            for count in range(intervals + 1)
            if decided(count)
        )
        return sum(terms)

    assert 0 < chance(lambda count: beyond_chance(count, intervals)) <= 0.05
    supported = chance(lambda n: decide([1] * n + [0] * (intervals - n), "")[0] == "supported")
    assert 0 < supported <= 0.05


def test_inside_and_outside():
    ends = [-3, -1, 0, 1, 3]
    for low, high in product(ends, ends):
        if low <= high:
            inside = all(-1 <= value <= 1 for value in (low, high))
            outside = high < -1 or low > 1
            assert inside_or_outside(low, high, -1, 1) == inside - outside


def test_the_evidence_counts():
    assert decide([1, 0, -1], "a, b, c")[1] == "1 of 3 for, 1 against: a, b, c"
    assert decide([1], "a")[1] == "a"
