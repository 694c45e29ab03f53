"""From intervals to a verdict on a claim: counts against chance, the same way for and against.

Each interval says for (it lies wholly on the claim's side), against (wholly on the other side) or neither. Where the
truth is at the boundary, a 95% interval lies wholly on one given side by chance in at most 2.5% of cases. A claim is
supported where more than half of the intervals say for it and no more than chance explains at 5% (binomial) against it;
contradicted the other way round; else not shown. One interval decides alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from scipy import stats

Word = Literal["supported", "contradicted", "not shown", "not judged", "not run"]
Outcome = tuple[Word, str]  # and the evidence for it
BY_CHANCE = 0.025
LEVEL = 0.05


def beyond_chance(count: int, intervals: int) -> bool:
    """Whether so many of these intervals lie on one side more often than chance explains."""
    return bool(stats.binom.sf(count - 1, intervals, BY_CHANCE) <= LEVEL)


def decide(signs: Sequence[int], details: str) -> Outcome:
    """Weigh what the intervals say: 1 for the claim, -1 against it, 0 neither."""
    if not signs:
        return "not run", details
    favourable, adverse = signs.count(1), signs.count(-1)
    counts = f"{favourable} of {len(signs)} for, {adverse} against: " if len(signs) > 1 else ""
    word: Word = "not shown"
    if 2 * favourable > len(signs) and not beyond_chance(adverse, len(signs)):
        word = "supported"
    elif 2 * adverse > len(signs) and not beyond_chance(favourable, len(signs)):
        word = "contradicted"
    return word, f"{counts}{details}"


def inside_or_outside(low: float, high: float, least: float, most: float) -> int:
    """1 where an interval lies within the limits, -1 where it lies wholly outside them, 0 where it does neither."""
    if least <= low and high <= most:
        return 1
    return -1 if high < least or low > most else 0
