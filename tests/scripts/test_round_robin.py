"""Timing in turn, against closed forms on a clock that only the contenders move."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmark.round_robin import between, quartiles, ratios, round_robin


class Machine:
    """A clock in seconds, and contenders whose work takes a known time on a machine that becomes slower."""

    def __init__(self, slowing: float = 0.0) -> None:
        self.now, self.slowing, self.order = 0.0, slowing, ""

    def contender(self, name: str, work: float):
        def run() -> float:
            self.order += name
            took = work * (1 + self.slowing * self.now)
            self.now += took
            return took

        return run

    def clock(self) -> float:
        return self.now


@given(st.integers(1, 6), st.integers(1, 12))
def test_every_contender_runs_once_a_round_and_takes_every_place_equally_often(contenders: int, cycles: int) -> None:
    machine = Machine()
    names = "abcdef"[:contenders]
    round_robin({name: machine.contender(name, 1.0) for name in names}, cycles * contenders, clock=machine.clock)
    rounds = [machine.order[start : start + contenders] for start in range(0, len(machine.order), contenders)]
    assert all(sorted(each) == list(names) for each in rounds)
    for place in range(contenders):
        assert sorted(each[place] for each in rounds) == sorted(names * cycles)


def test_the_order_and_the_measurements() -> None:
    machine = Machine()
    done: list[int] = []
    contenders = {name: machine.contender(name, work) for name, work in {"a": 1.0, "b": 2.0, "c": 4.0}.items()}
    measurements = round_robin(contenders, 3, progress=done.append, clock=machine.clock)
    assert machine.order == "abcbcacab"
    assert measurements == {"a": [1.0] * 3, "b": [2.0] * 3, "c": [4.0] * 3}
    assert done == [1, 2, 3]


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (20.9, 3), (27.9, 3), (28.0, 4), (1000.0, 100)])
def test_no_round_begins_that_would_end_too_late(seconds: float, rounds: int) -> None:
    """A round takes 7 s: the fourth would end after 28."""
    machine = Machine()
    contenders = {"a": machine.contender("a", 3.0), "b": machine.contender("b", 4.0)}
    measurements = round_robin(contenders, 100, seconds=seconds, clock=machine.clock)
    assert [len(each) for each in measurements.values()] == [rounds, rounds]


def test_ratios_within_a_round_withstand_a_machine_that_becomes_slower() -> None:
    """Speed halves during the rounds. The ratio of work is 0.8; that of the series one after the other is far off."""
    slow = Machine(slowing=0.01)
    contenders = {"ours": slow.contender("o", 0.8), "theirs": slow.contender("t", 1.0)}
    timings = round_robin(contenders, 40, clock=slow.clock)
    assert slow.now > 100 / 2
    assert quartiles(ratios(timings["ours"], timings["theirs"])).median == pytest.approx(0.8, rel=0.02)
    apart = Machine(slowing=0.01)
    series = {name: [apart.contender(name, work)() for _ in range(40)] for name, work in (("o", 0.8), ("t", 1.0))}
    assert sum(series["o"]) / sum(series["t"]) < 0.7


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=40))
def test_quartiles_are_numpys(values: list[float]) -> None:
    assert quartiles(values) == pytest.approx(tuple(np.quantile(values, [0.25, 0.5, 0.75])))


def test_between_is_exact_for_a_machine_whose_speed_changes_linearly() -> None:
    assert between([2.0, 4.0, 6.0, 7.0]) == [3.0, 5.0, 6.5]
    assert between([1.0]) == []


def test_series_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"argument 2 is shorter"):
        ratios([1.0, 2.0], [1.0])
