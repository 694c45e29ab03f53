"""The unit of a table's figures (recipes/figure_format.py)."""

from __future__ import annotations

from recipes.figure_format import Unit, unit
from reports.tables.comparison import Row, Table
from reports.tables.names import metric_name


def unit_of(table: Table) -> Unit:
    """Return the unit of a table's compared figures: percent if all are shares and higher is better."""
    return unit(table.comparison.goal, (row.compared(split)[0] for row in table.rows for split in ("test", "val")))


def metric_in_unit(table: Table) -> str:
    """Name a table's metric with its unit: "accuracy in %", "perplexity"."""
    sign = unit_of(table).sign
    return metric_name(table.comparison) + (f" in {sign}" if sign else "")


def difference(row: Row, table: Table) -> str:
    """Write a row's difference to the reference in its table's unit."""
    return unit_of(table).difference(row.difference, row.difference_low, row.difference_high)
