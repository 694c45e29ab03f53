"""Heatmaps on the page: a metric by learning rate and weight decay, one panel for each optimizer."""

from __future__ import annotations

import math
from typing import Literal

from reports.page import content as page
from reports.protocol import SUBJECT
from reports.statistics.setting_grid import colour_limits, setting_grid
from reports.tables.comparison import Table
from reports.tables.units import metric_in_unit, unit_of


def setting_maps(table: Table) -> page.HeatmapBlock | None:
    """Return one heatmap for each optimizer, on a common colour scale; None if no optimizer was swept."""
    swept = [contender for contender in table.comparison.contenders if len(contender.settings) > 1]
    if not swept:
        return None
    swept.sort(key=lambda c: (c.label != table.reference, c.label != SUBJECT, c.label))  # these two side by side
    grids = [setting_grid(contender) for contender in swept]
    unit = unit_of(table)
    panels = [
        page.Heatmap(
            contender.label,
            grid.learning_rates,
            grid.weight_decays,
            [[_finite(unit.times * value) for value in row] for row in grid.values],
            grid.chosen,
            [(int(row), int(column)) for row, column in zip(*grid.diverged.nonzero(), strict=True)],
            contender.label.partition(" ")[0],
            table.comparison.task,
        )
        for contender, grid in zip(swept, grids, strict=True)
    ]
    goal: Literal["max", "min"] = "min" if table.comparison.goal == "min" else "max"
    finite = [value for panel in panels for row in panel.values for value in row if value is not None]
    low, high = (unit.times * end for end in colour_limits(grids, goal))
    clipped = finite and (high < max(finite) or low > min(finite))
    limits = (low, high) if clipped else None  # None: from the smallest to the largest value
    digits = 3 if not finite or (max(abs(value) for value in finite) < 10 and not unit.sign) else 1
    words = f"Final validation {metric_in_unit(table)} of each setting; the chosen one is framed."
    return page.HeatmapBlock(words, "peak learning rate", "weight decay", panels, goal, digits, limits)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
