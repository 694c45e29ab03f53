"""Format figures in their usual unit, rounded by their interval.

Shares (accuracies and scores between 0 and 1) are written in percent and their differences in points; other metrics,
such as perplexities, are unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.number_format import NONE, fixed
from reports.tables.comparison import Row, Table

MOST_DECIMALS = 6


@dataclass(frozen=True)
class Unit:
    """The unit of a table's figures: a factor, and the suffixes of a figure and of a difference."""

    times: float = 1.0
    sign: str = ""
    points: str = ""

    def figure(self, mean: float, low: float, high: float) -> str:
        """Write a mean with half the width of its interval: "96.0 ± 0.5%"; without an interval the mean alone."""
        if math.isnan(mean):
            return NONE
        half = self.times * (high - low) / 2
        if math.isnan(half):
            return fixed(self.times * mean, 1 if self.sign else _four_figures(mean)) + self.sign
        places = decimals(half)
        return f"{fixed(self.times * mean, places)} ± {fixed(half, places)}{self.sign}"

    def difference(self, value: float, low: float, high: float) -> str:
        """Write a difference with its interval: "+1.4 points [+0.4, +2.5]"."""
        if math.isnan(value):
            return NONE
        value, low, high = (self.times * end for end in (value, low, high))
        if math.isnan(low):
            return fixed(value, 1 if self.sign else _four_figures(value), "+") + self.points
        places = decimals((high - low) / 2)
        while places < MOST_DECIMALS and any(each and not float(fixed(each, places)) for each in (value, low, high)):
            places += 1  # a rounded 0 would hide its sign
        ends = f"[{fixed(low, places, '+')}, {fixed(high, places, '+')}]"
        return f"{fixed(value, places, '+')}{self.points} {ends}"


def unit_of(table: Table) -> Unit:
    """Return the unit of a table's compared figures: percent if all are shares and higher is better."""
    means = [row.compared(split)[0] for row in table.rows for split in ("test", "val")]
    shares = all(0 <= mean <= 1 for mean in means if math.isfinite(mean))
    return Unit(100.0, "%", " points") if table.comparison.goal == "max" and shares else Unit()


def difference(row: Row, table: Table) -> str:
    """Write a row's difference to the reference in its table's unit."""
    return unit_of(table).difference(row.difference, row.difference_low, row.difference_high)


def decimals(half_width: float) -> int:
    """Return the decimals that an interval of this half-width warrants: two of its digits up to 35, else one.

    This is how the Particle Data Group rounds an error: 0.35 and 3.5, but 0.4 and 4.
    """
    if not math.isfinite(half_width) or half_width <= 0:
        return 2
    return min(max(0, -math.floor(math.log10(half_width / 3.55))), MOST_DECIMALS)


def _four_figures(value: float) -> int:
    return min(max(0, 3 - math.floor(math.log10(abs(value)))), MOST_DECIMALS) if value and math.isfinite(value) else 2
