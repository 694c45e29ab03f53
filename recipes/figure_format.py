"""Figures in the unit in which people say them, with the decimals that their interval warrants.

Shares (accuracies and scores between 0 and 1) are written in percent and their differences in points; other metrics,
such as perplexities, as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

NONE = "-"
MOST_DECIMALS = 6


@dataclass(frozen=True)
class Unit:
    """How the figures of one metric are written: a factor, and what follows a figure and a difference."""

    times: float = 1.0
    sign: str = ""
    points: str = ""

    def figure(self, mean: float, low: float = math.nan, high: float = math.nan) -> str:
        """Write a mean with half the width of its interval: "96.0 ± 0.5%"; without an interval the mean alone."""
        if math.isnan(mean):
            return NONE
        half = self.times * (high - low) / 2
        if math.isnan(half):
            return fixed(self.times * mean, 1 if self.sign else _four_figures(mean)) + self.sign
        places = decimals(half)
        return f"{fixed(self.times * mean, places)} ± {fixed(half, places)}{self.sign}"

    def range(self, low: float, high: float) -> str:
        """Write the ends of an interval of figures: "94.4 to 97.7%"."""
        low, high = self.times * low, self.times * high
        places = decimals((high - low) / 2)
        return f"{fixed(low, places)} to {fixed(high, places)}{self.sign}"

    def estimate(self, value: float, low: float, high: float) -> str:
        """Write an estimate with the ends of its interval: "1.23 [1.05, 1.40]"."""
        value, low, high = (self.times * each for each in (value, low, high))
        places = decimals((high - low) / 2)
        return f"{fixed(value, places)}{self.sign} [{fixed(low, places)}, {fixed(high, places)}]"

    def difference(self, value: float, low: float, high: float) -> str:
        """Write a difference with its interval: "+1.4 points [+0.4, +2.5]"."""
        if math.isnan(value):
            return NONE
        value, low, high = (self.times * end for end in (value, low, high))
        if math.isnan(low):
            return fixed(value, 1 if self.sign else _four_figures(value), "+") + self.points
        places = decimals((high - low) / 2)
        while places < MOST_DECIMALS and any(each and not float(fixed(each, places)) for each in (value, low, high)):
            places += 1  # what is written as 0 hides on which side of it it lies
        ends = f"[{fixed(low, places, '+')}, {fixed(high, places, '+')}]"
        return f"{fixed(value, places, '+')}{self.points} {ends}"


def unit(goal: str | None, figures: Iterable[float]) -> Unit:
    """Return the unit of a metric's figures: percent where more is better and all are shares."""
    shares = all(0 <= figure <= 1 for figure in figures if math.isfinite(figure))
    return Unit(100.0, "%", " points") if goal == "max" and shares else Unit()


def decimals(half_width: float) -> int:
    """Return the decimals that an interval of this half-width warrants: two of its digits up to 35, else one.

    This is how the Particle Data Group rounds an error: 0.35 and 3.5, but 0.4 and 4.
    """
    if not math.isfinite(half_width) or half_width <= 0:
        return 2
    return min(max(0, -math.floor(math.log10(half_width / 3.55))), MOST_DECIMALS)


def fixed(value: float, places: int, sign: str = "") -> str:
    """Write a number with so many decimals; a huge one, such as the loss of a run on its way out, in short."""
    return f"{value:{sign}.{places}f}" if abs(value) < 1e7 else f"{value:{sign}.4g}"


def _four_figures(value: float) -> int:
    return min(max(0, 3 - math.floor(math.log10(abs(value)))), MOST_DECIMALS) if value and math.isfinite(value) else 2
