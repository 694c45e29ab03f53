"""The clock's parts against an independent clock."""

import time

import pytest

from recipes.clock import Clock


def sleep(seconds: float) -> float:
    """Sleep, and return how long that took on this machine by another clock."""
    start = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - start


def test_parts_add_up_to_the_wall_time() -> None:
    start = time.monotonic()
    clock = Clock("start")
    for part in ("train", "log", "train", "evaluate"):
        time.sleep(0.01)
        clock.switch(part)
    time.sleep(0.01)
    elapsed, wall = clock.elapsed, time.monotonic() - start
    assert elapsed == pytest.approx(wall, abs=0.005)
    clock.switch("end")
    assert set(clock.seconds) == {"start", "train", "log", "evaluate"}
    assert sum(clock.seconds.values()) == pytest.approx(time.monotonic() - start, abs=0.005)


def test_each_part_holds_its_own_time_and_switch_returns_the_stretch() -> None:
    clock = Clock("train")
    slept = sleep(0.02)
    first = clock.switch("evaluate")
    assert first == pytest.approx(slept, abs=0.01)
    evaluating = sleep(0.06)
    assert clock.switch("train") == pytest.approx(evaluating, abs=0.01)
    second_slept = sleep(0.02)
    second = clock.switch("end")
    assert second == pytest.approx(second_slept, abs=0.01)
    assert clock.seconds["train"] == pytest.approx(first + second, abs=1e-9)
    assert clock.seconds["evaluate"] == pytest.approx(evaluating, abs=0.01)


def test_during_nests_and_returns_to_what_it_interrupted() -> None:
    clock = Clock("train")
    with clock.during("evaluate"):
        assert clock.part == "evaluate"
        outer = sleep(0.02)
        with clock.during("log"):
            assert clock.part == "log"
            inner = sleep(0.05)
        assert clock.part == "evaluate"
        outer += sleep(0.02)
    assert clock.part == "train"
    assert clock.seconds["log"] == pytest.approx(inner, abs=0.01)
    assert clock.seconds["evaluate"] == pytest.approx(outer, abs=0.01)


def test_during_returns_to_what_it_interrupted_after_an_error() -> None:
    clock = Clock("train")
    with pytest.raises(KeyError), clock.during("evaluate"):
        time.sleep(0.01)
        raise KeyError
    assert clock.part == "train"
    assert clock.seconds["evaluate"] >= 0.009


def test_seconds_of_before_a_resume_are_added() -> None:
    before = {"train": 100.0, "log": 3.0}
    start = time.monotonic()
    clock = Clock("start", before)
    time.sleep(0.01)
    clock.switch("train")
    time.sleep(0.01)
    clock.switch("end")
    wall = time.monotonic() - start
    assert clock.elapsed == pytest.approx(103 + wall, abs=0.005)
    assert 100.009 < clock.seconds["train"] < 100 + wall
    assert clock.seconds["log"] == 3
    assert before == {"train": 100.0, "log": 3.0}  # what was handed in is the caller's


def test_the_device_is_waited_for_at_each_switch_and_the_wait_belongs_to_the_part_that_queued_the_work() -> None:
    waits: list[float] = []
    clock = Clock("train", synchronize=lambda: waits.append(sleep(0.03)))
    assert waits == []
    clock.switch("log")
    assert len(waits) == 1
    assert clock.seconds["train"] == pytest.approx(waits[0], abs=0.01)
    with clock.during("evaluate"):
        assert len(waits) == 2
    assert len(waits) == 3
    assert clock.seconds["evaluate"] == pytest.approx(waits[2], abs=0.01)
