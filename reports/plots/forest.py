"""The forest plot: the difference of one optimizer to the reference on each task, with interval and verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.plots import plot_style
from reports.statistics.families import difference
from reports.statistics.intervals import NO_DIFFERENCE, Difference
from reports.tables.comparison import Row, Table
from reports.tables.names import metric_name, task_name

COLOURS = {"better": "#2166AC", "worse": "#B2182B", NO_DIFFERENCE: "#7F7F7F", "": "#7F7F7F"}
LINEAR = 2.0  # percent up to which the axis is linear; beyond, a decade has the same width
TICKS = (-100, -10, -1, 0, 1, 10, 100)


@dataclass(frozen=True)
class ForestRow:
    """One task. Ends and value are in percent of the reference's figure, better to the right."""

    table: Table
    name: str
    value: float
    interval: tuple[float, float]  # the task's 95% interval
    joint: tuple[float, float]  # the interval that holds for all tasks together
    verdict: str
    seeds: int
    open: bool


def forest_rows(tables: Sequence[Table], subject: str) -> list[ForestRow]:
    """Return a row for each table in which the subject and the reference ran on common seeds."""
    pairs = []
    for table in tables:
        row = next((row for row in table.rows if row.optim == subject), None)
        base = next((row for row in table.rows if row.is_reference), None)
        if row is not None and base is not None and row.common_seeds > 1 and base.compared(table.split)[0]:
            pairs.append((table, row, base))
    return [_forest_row(table, row, base, len(pairs)) for table, row, base in pairs]


def _forest_row(table: Table, row: Row, base: Row, tasks: int) -> ForestRow:
    ours, theirs = (
        next(c for c in table.comparison.contenders if c.label == label) for label in (row.optim, base.optim)
    )
    joint = difference(ours, theirs, "test" if table.split == "test" else "final", max(row.comparisons, 1) * tasks)
    interval = Difference(row.difference, row.difference_low, row.difference_high, row.common_seeds)
    times = 100.0 / abs(base.compared(table.split)[0]) * (1 if table.comparison.goal == "max" else -1)

    def ends(gap: Difference) -> tuple[float, float]:
        low, high = sorted((times * gap.low, times * gap.high))
        return low, high

    return ForestRow(
        table=table,
        name=task_name(table.comparison) + (f", {table.comparison.steps:,} steps" if table.note else ""),
        value=times * row.difference,
        interval=ends(interval),
        joint=ends(joint),
        verdict=row.verdict,
        seeds=row.common_seeds,
        open=row.open or base.open,
    )


def reach_of(rows: Sequence[ForestRow]) -> float:
    """Return the axis's end, beyond every interval."""
    return max(3.0, *(abs(end) for row in rows for end in (*row.interval, *row.joint) if math.isfinite(end))) * 1.1


def write_forest(
    tables: Sequence[Table], subject: str, folder: Path, stem: str, formats: Sequence[str] = ("svg",)
) -> list[Path]:
    """Write the forest plot of the tables' comparisons with their reference; nothing if there is none."""
    rows = forest_rows(tables, subject)
    if not rows:
        return []
    return plot_style.save(lambda: _draw(rows, subject, tables[0].reference), folder, stem, formats)


def _draw(rows: Sequence[ForestRow], subject: str, reference: str) -> Figure:
    figure = Figure(figsize=(7.2, 1.3 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        colour = COLOURS[row.verdict]
        panel.plot(row.joint, [place, place], color=colour, linewidth=1, solid_capstyle="butt", clip_on=True)
        panel.plot(row.interval, [place, place], color=colour, linewidth=3.2, solid_capstyle="butt", clip_on=True)
        face = "white" if row.open else colour
        panel.plot([row.value], [place], "o", color=colour, markerfacecolor=face, markersize=6, zorder=3)
        words = f"{row.verdict or 'no verdict'}, {row.seeds} seeds" + (", settings open" if row.open else "")
        panel.annotate(
            words, (1.01, place), xycoords=("axes fraction", "data"), va="center", color=colour, annotation_clip=False
        )
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_xscale("symlog", linthresh=LINEAR)
    reach = reach_of(rows)
    panel.set_xlim(-reach, reach)
    panel.set_xticks([tick for tick in TICKS if abs(tick) <= reach])
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:+.0f}" if value else "0")
    panel.xaxis.set_minor_locator(plot_style.no_ticks())
    panel.set_yticks(range(len(rows)), [f"{row.name}\n{metric_name(row.table.comparison)}" for row in reversed(rows)])
    panel.set_ylim(-0.6, len(rows) - 0.4)
    panel.grid(visible=False, axis="y")
    panel.set_xlabel(f"{subject} minus {reference} on test data, % of {reference}'s figure: worse  ←   0   →  better")
    handles = [
        Line2D([], [], color="#444444", linewidth=3.2, label="95% interval"),
        Line2D([], [], color="#444444", linewidth=1, label="95% for all tasks together"),
        Line2D(
            [], [], color="#444444", marker="o", markerfacecolor="white", linestyle="", label="settings not enclosed"
        ),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False)
    return figure
