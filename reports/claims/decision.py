"""Combine intervals into a verdict on a claim, by a binomial test that treats both sides alike.

An interval supports a claim if it is entirely on the claim's side, contradicts it if it is entirely on the other side,
and otherwise does neither. If the truth is at the boundary, a 95% interval is entirely on one given side by chance in
at most 2.5% of cases; the range of settings that tie has no such level, and is counted alike. A claim is supported if
more than half of the intervals support it and no more than chance explains at 5% (binomial) contradict it; contradicted
in the opposite case; else not shown. A single interval decides alone.
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
    """Whether more of these intervals are on one side than chance explains."""
    return bool(stats.binom.sf(count - 1, intervals, BY_CHANCE) <= LEVEL)


def decide(signs: Sequence[int], details: str) -> Outcome:
    """Combine the signs of intervals: 1 for the claim, -1 against it, 0 neither."""
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
    """1 if an interval is within the limits, -1 if it is entirely outside them, else 0."""
    if least <= low and high <= most:
        return 1
    return -1 if high < least or low > most else 0
