"""The timer against an independent clock, read just before and just after each switch.

What lies between the later reading of one switch and the earlier reading of the next is the least that a stretch
can have taken, what lies between the outer readings the most: the bounds hold however busy the machine is.
"""

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from recipes.training.timers import PhaseTimer

EPSILON = 1e-6  # rounding of sums, and of one clock against the other
Result = TypeVar("Result")


class Witness:
    """Reads a clock around every event."""

    def __init__(self) -> None:
        self.readings: list[tuple[float, float]] = []

    def around(self, event: Callable[[], Result]) -> Result:
        before = time.monotonic()
        result = event()
        self.readings.append((before, time.monotonic()))
        return result

    def bounds(self, first: int, last: int) -> tuple[float, float]:
        """The least and the most that can have passed from one event to another."""
        (earliest, early), (late, latest) = self.readings[first], self.readings[last]
        return late - early - EPSILON, latest - earliest + EPSILON


def within(seconds: float, *bounds: tuple[float, float]) -> bool:
    return sum(low for low, _ in bounds) <= seconds <= sum(high for _, high in bounds)


def test_parts_add_up_to_the_wall_time() -> None:
    witness = Witness()
    timer = witness.around(lambda: PhaseTimer("start"))
    for number, part in enumerate(("train", "log", "train", "evaluate", "train"), 1):
        time.sleep(0.01)
        witness.around(lambda part=part: timer.switch(part))
        assert within(sum(timer.seconds.values()), witness.bounds(0, number))
    time.sleep(0.01)
    assert within(witness.around(lambda: timer.elapsed), witness.bounds(0, 6))  # the running part counts as well
    assert within(sum(timer.seconds.values()), witness.bounds(0, 5))
    assert sum(timer.seconds.values()) >= 0.05 - 1e-4  # five pauses


def test_each_part_holds_its_own_time_and_switch_returns_the_stretch() -> None:
    witness = Witness()
    timer = witness.around(lambda: PhaseTimer("train"))
    stretches = []
    for part, pause in (("evaluate", 0.02), ("train", 0.06), ("end", 0.02)):
        time.sleep(pause)
        stretches.append(witness.around(lambda part=part: timer.switch(part)))
    for number, stretch in enumerate(stretches):
        assert within(stretch, witness.bounds(number, number + 1))
    assert timer.seconds == pytest.approx({"train": stretches[0] + stretches[2], "evaluate": stretches[1]})


def test_during_nests_and_returns_to_what_it_interrupted() -> None:
    witness = Witness()
    timer = witness.around(lambda: PhaseTimer("train"))
    evaluating, logging = timer.during("evaluate"), timer.during("log")
    witness.around(evaluating.__enter__)
    assert timer.part == "evaluate"
    time.sleep(0.02)
    witness.around(logging.__enter__)
    assert timer.part == "log"
    time.sleep(0.05)
    witness.around(lambda: logging.__exit__(None, None, None))
    assert timer.part == "evaluate"
    time.sleep(0.02)
    witness.around(lambda: evaluating.__exit__(None, None, None))
    assert timer.part == "train"
    assert within(timer.seconds["train"], witness.bounds(0, 1))
    assert within(timer.seconds["log"], witness.bounds(2, 3))
    assert within(timer.seconds["evaluate"], witness.bounds(1, 2), witness.bounds(3, 4))


def test_during_returns_to_what_it_interrupted_after_an_error() -> None:
    timer = PhaseTimer("train")
    with contextlib.suppress(KeyError), timer.during("evaluate"):
        time.sleep(0.01)
        raise KeyError
    assert timer.part == "train"
    assert timer.seconds["evaluate"] >= 0.009


def test_seconds_of_before_a_resume_are_added() -> None:
    before = {"train": 100.0, "log": 3.0}
    witness = Witness()
    timer = witness.around(lambda: PhaseTimer("start", before))
    time.sleep(0.01)
    witness.around(lambda: timer.switch("train"))
    time.sleep(0.01)
    witness.around(lambda: timer.switch("end"))
    assert within(witness.around(lambda: timer.elapsed) - 103, witness.bounds(0, 3))
    assert within(timer.seconds["train"] - 100, witness.bounds(1, 2))
    assert timer.seconds["log"] == 3
    assert before == {"train": 100.0, "log": 3.0}  # what was handed in stays the caller's


def test_each_switch_waits_for_the_device_and_the_part_that_queued_the_work_pays() -> None:
    witness = Witness()
    timer = PhaseTimer("train", synchronize=lambda: witness.around(lambda: time.sleep(0.03)))
    assert witness.readings == []  # nothing is queued before the first part
    timer.switch("log")
    assert len(witness.readings) == 1
    assert timer.seconds["train"] >= witness.bounds(0, 0)[1] - 2 * EPSILON
    with timer.during("evaluate"):
        assert len(witness.readings) == 2
    assert len(witness.readings) == 3
    assert timer.seconds["evaluate"] >= witness.bounds(2, 2)[1] - 2 * EPSILON
