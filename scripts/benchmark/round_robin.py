"""Time several contenders in turn in one process, so that a machine whose speed varies slows all of them alike.

Compare ratios within a round: neighbours in time ran under the same conditions, whole series did not.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

Measurement = TypeVar("Measurement")
FEWEST_ROUNDS = 3  # quartiles of fewer are meaningless


class Quartiles(NamedTuple):
    """The lower quartile, the median and the upper quartile."""

    low: float
    median: float
    high: float


def round_robin(
    contenders: Mapping[str, Callable[[], Measurement]],
    rounds: int,
    *,
    seconds: float = math.inf,
    progress: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[Measurement]]:
    """Call every contender once a round; the order rotates by one place from round to round.

    Args:
        contenders: callables that run for a while and return what they measured.
        rounds: at most.
        seconds: no round begins that would end later than this, by the mean length of the rounds before it; the first
            FEWEST_ROUNDS are run in any case.
        progress: called after each round with the number of rounds done.
        clock: returns seconds; measures the length of the rounds, and nothing within them.

    Returns:
        The measurements of each contender, one a round.
    """
    names = list(contenders)
    measurements: dict[str, list[Measurement]] = {name: [] for name in names}
    start = clock()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and (clock() - start) * (done + 1) / done > seconds:
            break
        for place in range(len(names)):
            name = names[(done + place) % len(names)]
            measurements[name].append(contenders[name]())
        if progress is not None:
            progress(done + 1)
    return measurements


def quartiles(values: Sequence[float]) -> Quartiles:
    """Return the quartiles of at least two values, linearly interpolated between them, as numpy does by default."""
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Divide measurement by measurement, round by round.

    Raises:
        ValueError: the series differ in length.
    """
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def between(measurements: Sequence[float]) -> list[float]:
    """Return the mean of each two neighbours: the value between them if speed changes linearly.

    A block between two blocks of the reference is compared with it.
    """
    return [(before + after) / 2 for before, after in itertools.pairwise(measurements)]
