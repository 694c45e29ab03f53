"""How wide the primary intervals are, and how narrow more fresh seeds could make them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from reports.protocol import SUBJECT
from reports.statistics.families import variance_of_choices
from reports.tables.answer import name, pair
from reports.tables.comparison import Table
from reports.tables.units import unit_of

NARROW = {"points": 1.0, "%": 3.0}  # half-widths that count as narrow


def interval_widths(tables: Sequence[Table], subject: str = SUBJECT) -> str:
    """Return sentences on the half-widths of the intervals of the subject's differences; empty without an interval.

    A half-width is in points where the metric is a share, else in percent of the reference's figure.
    """
    widths = [(table.comparison.task, *both) for table in tables if (both := _half_widths(table, subject))]
    wide = [(task, kind, half, least) for task, kind, half, least in widths if half > NARROW[kind]]
    if not widths:
        return ""
    count = f"{len(widths) - len(wide)} of {len(widths)} tasks"
    if not wide:
        return f"The intervals' half-widths are at most 1 point or 3% on {count}."
    listed = ", ".join(f"{task} {_written(half, kind)} ({_written(least, kind)})" for task, kind, half, least in wide)
    return (
        f"The intervals' half-widths, in points or in % of {name(tables[0].reference)}'s figure, are at most 1 point "
        f"or 3% on {count}. Wider, in brackets with any number of fresh seeds: {listed}. What fresh seeds leave is the "
        "choice of settings."
    )


def _half_widths(table: Table, subject: str) -> tuple[str, float, float] | None:
    """Whether they are points or %, the half-width, and the one that the choice of settings alone would leave."""
    both = pair(table, subject)
    if both is None or math.isnan(both[0].difference_low):
        return None
    row, base = both
    half = (row.difference_high - row.difference_low) / 2
    unit, reference = unit_of(table), abs(base.compared(table.split)[0])
    if not unit.points and not reference:
        return None  # no share of nothing
    kind, scale = ("points", unit.times) if unit.points else ("%", 100 / reference)
    contenders = {contender.label: contender for contender in table.comparison.contenders}
    choice = variance_of_choices(contenders[row.optim], contenders[base.optim])
    of_seeds = 1 / row.common_seeds
    quantiles = stats.norm.ppf(0.975) / stats.t.ppf(0.975, row.common_seeds - 1)
    least = half * quantiles * math.sqrt(choice / (of_seeds + choice))
    return kind, scale * half, scale * least


def _written(half: float, kind: str) -> str:
    return f"{half:.2g} points" if kind == "points" else f"{half:.2g}%"
