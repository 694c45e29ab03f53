"""The clock's parts against an independent clock, read just before and just after each switch.

What lies between the later reading of one switch and the earlier reading of the next is the least that a stretch
can have taken, what lies between the outer readings the most: the bounds hold however busy the machine is.
"""

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from recipes.training.timers import Clock

EPSILON = 1e-6  # rounding of sums, and of one clock against the other
Result = TypeVar("Result")


class Witness:
    """Reads another clock around every event."""

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
    clock = witness.around(lambda: Clock("start"))
    for number, part in enumerate(("train", "log", "train", "evaluate", "train"), 1):
        time.sleep(0.01)
        witness.around(lambda part=part: clock.switch(part))
        assert within(sum(clock.seconds.values()), witness.bounds(0, number))
    time.sleep(0.01)
    assert within(witness.around(lambda: clock.elapsed), witness.bounds(0, 6))  # the running part counts as well
    assert within(sum(clock.seconds.values()), witness.bounds(0, 5))
    assert sum(clock.seconds.values()) >= 0.05 - 1e-4  # five pauses


def test_each_part_holds_its_own_time_and_switch_returns_the_stretch() -> None:
    witness = Witness()
    clock = witness.around(lambda: Clock("train"))
    stretches = []
    for part, pause in (("evaluate", 0.02), ("train", 0.06), ("end", 0.02)):
        time.sleep(pause)
        stretches.append(witness.around(lambda part=part: clock.switch(part)))
    for number, stretch in enumerate(stretches):
        assert within(stretch, witness.bounds(number, number + 1))
    assert clock.seconds == pytest.approx({"train": stretches[0] + stretches[2], "evaluate": stretches[1]})


def test_during_nests_and_returns_to_what_it_interrupted() -> None:
    witness = Witness()
    clock = witness.around(lambda: Clock("train"))
    evaluating, logging = clock.during("evaluate"), clock.during("log")
    witness.around(evaluating.__enter__)
    assert clock.part == "evaluate"
    time.sleep(0.02)
    witness.around(logging.__enter__)
    assert clock.part == "log"
    time.sleep(0.05)
    witness.around(lambda: logging.__exit__(None, None, None))
    assert clock.part == "evaluate"
    time.sleep(0.02)
    witness.around(lambda: evaluating.__exit__(None, None, None))
    assert clock.part == "train"
    assert within(clock.seconds["train"], witness.bounds(0, 1))
    assert within(clock.seconds["log"], witness.bounds(2, 3))
    assert within(clock.seconds["evaluate"], witness.bounds(1, 2), witness.bounds(3, 4))


def test_during_returns_to_what_it_interrupted_after_an_error() -> None:
    clock = Clock("train")
    with contextlib.suppress(KeyError), clock.during("evaluate"):
        time.sleep(0.01)
        raise KeyError
    assert clock.part == "train"
    assert clock.seconds["evaluate"] >= 0.009


def test_seconds_of_before_a_resume_are_added() -> None:
    before = {"train": 100.0, "log": 3.0}
    witness = Witness()
    clock = witness.around(lambda: Clock("start", before))
    time.sleep(0.01)
    witness.around(lambda: clock.switch("train"))
    time.sleep(0.01)
    witness.around(lambda: clock.switch("end"))
    assert within(witness.around(lambda: clock.elapsed) - 103, witness.bounds(0, 3))
    assert within(clock.seconds["train"] - 100, witness.bounds(1, 2))
    assert clock.seconds["log"] == 3
    assert before == {"train": 100.0, "log": 3.0}  # what was handed in stays the caller's


def test_each_switch_waits_for_the_device_and_the_part_that_queued_the_work_pays() -> None:
    witness = Witness()
    clock = Clock("train", synchronize=lambda: witness.around(lambda: time.sleep(0.03)))
    assert witness.readings == []  # nothing is queued before the first part
    clock.switch("log")
    assert len(witness.readings) == 1
    assert clock.seconds["train"] >= witness.bounds(0, 0)[1] - 2 * EPSILON
    with clock.during("evaluate"):
        assert len(witness.readings) == 2
    assert len(witness.readings) == 3
    assert clock.seconds["evaluate"] >= witness.bounds(2, 2)[1] - 2 * EPSILON
