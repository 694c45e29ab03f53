"""Draw the curves behind a comparison: validation metric against steps and against time.

A row of two panels a comparison. A line is the mean over the seeds completed at an optimizer's chosen
setting; the band reaches from the smallest to the largest seed. A run that diverged at that setting is drawn
thin, to a cross where it stopped. The same records give the same bytes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from reports.number_format import slugs
from reports.plots import plot_style
from reports.plots.plot_style import Style, new_figure, styles_of
from reports.statistics.learning_curves import Curve, read_curve
from reports.tables.comparison import Table
from reports.tables.render import DIRECTION, caption, heading

NOTE = (
    "Line: mean over seeds at the chosen setting. Band: smallest to largest seed. "
    "Cross: a run diverged here; on the frame, before its first measurement."
)
LOG_FROM = 20.0  # a metric to be lowered that spans more than this factor gets a logarithmic axis
TIME_UNITS = ((3 * 3600.0, 3600.0, "h"), (600.0, 60.0, "min"), (0.0, 1.0, "s"))  # from, divisor, name


def write_curves(
    tables: Sequence[Table],
    folder: Path,
    names: Iterable[str],
    highlight: str = "",
    formats: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """Write `curves-<task>.<format>` for each task among the tables that has a curve; returns their paths.

    `names` are all optimizers of the records, so that each keeps its colour from one task to another;
    `highlight` is the one that stands out.
    """
    names = list(names)
    by_task: dict[str, list[Table]] = {}
    for table in tables:
        metric = table.comparison.metric or "unknown"
        if not all(read_curve(contender, metric).empty for contender in table.comparison.contenders):
            by_task.setdefault(table.comparison.task, []).append(table)
    stems = slugs(table.comparison.task for table in tables)
    written = []
    for task, of_task in by_task.items():
        draw = partial(draw_curves, of_task, names, highlight)
        written += plot_style.save(draw, folder, f"curves-{stems[task]}", formats)
    return written


def draw_curves(tables: Sequence[Table], names: Iterable[str], highlight: str = "") -> Figure:
    """Draw a row of panels a table: validation metric against steps (left) and against time (right)."""
    figure = new_figure(9.6, 3.4 * len(tables))
    labels = {contender.label for table in tables for contender in table.comparison.contenders}
    styles = styles_of({*names, *labels}, tables[0].reference, highlight)
    rows = figure.subfigures(len(tables), 1, squeeze=False)[:, 0]
    for row, table in zip(rows, tables, strict=True):
        _draw_row(row, table, styles)
    rows[-1].supxlabel(NOTE, x=0.01, ha="left", fontsize=7, color="#555555")
    return figure


def _draw_row(row: SubFigure, table: Table, styles: Mapping[str, Style]) -> None:
    comparison = table.comparison
    metric, goal = comparison.metric or "unknown", comparison.goal or ""
    curves = [read_curve(contender, metric) for contender in comparison.contenders]
    sign = -1 if goal == "max" else 1
    curves.sort(key=lambda curve: (math.isnan(curve.last), 0 if math.isnan(curve.last) else sign * curve.last))
    low, high, logarithmic = _limits(curves, goal)
    ends = [*(curve.mean["seconds"].max() for curve in curves), *(s.seconds for c in curves for s in c.stops)]
    longest = max((end for end in ends if math.isfinite(end)), default=0.0)
    divisor, unit = next((divisor, unit) for start, divisor, unit in TIME_UNITS if longest >= start)
    panels = row.subplots(1, 2, sharey=True)
    worst = high if goal == "min" else low
    for curve in curves:
        _draw_curve(panels[0], curve, styles[curve.optim], "step", 1.0, (low, high), worst)
        _draw_curve(panels[1], curve, styles[curve.optim], "seconds", divisor, (low, high), worst)
    for panel in panels:
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if logarithmic:
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panels[0].yaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylim(low, high)
    panels[0].set_ylabel(f"validation {metric.replace('_', ' ')}\n({DIRECTION.get(goal, 'direction unknown')})")
    panels[0].set_xlabel("training step")
    panels[0].xaxis.set_major_formatter(lambda x, _: f"{x:g}" if x < 10_000 else f"{x / 1000:g}k")
    panels[1].set_xlabel(f"time since the start of the run ({unit})")
    panels[1].legend(
        handles=[_handle(curve, styles[curve.optim]) for curve in curves],
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        frameon=False,
        fontsize=7,
        labelspacing=0.9,
    )
    untuned = "" if table.tuned else f" ({caption(table)})"
    row.suptitle(f"{comparison.task}{untuned}\n{textwrap.fill(heading(table), 160)}", x=0.01, ha="left", fontsize=8)


def _draw_curve(
    panel: Axes,
    curve: Curve,
    style: Style,
    column: str,
    divisor: float,
    limits: tuple[float, float],
    worst: float,
) -> None:
    """Draw one optimizer in one panel; `worst` is where a run is put that diverged before it was measured."""
    look: dict[str, Any] = {"color": style.colour, "zorder": 2 + style.width}
    if len(curve.mean):
        at = curve.mean[column] / divisor
        marker = "o" if len(at) <= 12 else ""
        line = look | {"linestyle": style.dashes, "linewidth": style.width}
        panel.plot(at, curve.mean["mean"], marker=marker, markersize=3, **line)
        panel.fill_between(at, curve.mean["low"], curve.mean["high"], alpha=0.15, linewidth=0, **look)
    for stop in curve.stops:
        end = stop.step if column == "step" else stop.seconds
        if math.isnan(end):
            continue
        x = [*stop.values[column], end]
        y = [*stop.values["value"].clip(*limits)]
        y.append(y[-1] if y else worst)
        panel.plot([value / divisor for value in x], y, linestyle=":", linewidth=1, **look)
        panel.plot(end / divisor, y[-1], marker="x", markersize=6, markeredgewidth=1.6, clip_on=False, **look)


def _limits(curves: Sequence[Curve], goal: str) -> tuple[float, float, bool]:
    """Choose the vertical range by the runs that completed, and whether it is logarithmic.

    A diverged run may leave the range: its values would squeeze the others into a line.
    """
    values = [x for curve in curves for column in ("low", "high") for x in curve.mean[column]]
    values = values or [x for curve in curves for stop in curve.stops for x in stop.values["value"]] or [0, 1]
    low, high = min(values), max(values)
    if goal == "min" and low > 0 and high / low > LOG_FROM:
        return low / 1.1, high * 1.1, True
    pad = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    return low - pad, high + pad, False


def _handle(curve: Curve, style: Style) -> Line2D:
    only_stops = curve.mean.empty and len(curve.stops) > 0
    return Line2D(
        [],
        [],
        color=style.colour,
        linestyle=":" if only_stops else style.dashes,
        linewidth=style.width,
        marker="x" if only_stops else "",
        label=f"{curve.optim}\n{curve.setting}",
    )
