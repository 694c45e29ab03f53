"""Draw the validation curves of a comparison: the whole run, and its second half enlarged.

Two panels for each comparison. A line is the mean over the seeds completed at an optimizer's chosen
setting; the band reaches from the smallest to the largest seed (for many optimizers only those of the reference and the
highlighted one are drawn). A run that diverged at that setting is drawn
thin, with a cross where it stopped. The right panel shows the second half of the run, at the range in which most
optimizers end, with the reference's final figure as a line. Time is no axis: runs may have shared a machine. The same
records give the same bytes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Container, Iterable, Mapping, Sequence
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
from reports.tables.names import metric_name
from reports.tables.render import DIRECTION, caption

NOTE = (
    "Line: mean over seeds at the chosen setting. Band: smallest to largest seed, beyond four optimizers of the "
    "reference and the one emphasised alone. Cross: a run diverged here; on the frame, before its first measurement. "
    "Right: the second half, where most end; dashed: the reference's final figure."
)
LOG_FROM = 20.0  # a metric to be lowered that spans more than this factor gets a logarithmic axis
BANDS_FOR = 4  # optimizers; more bands hide each other
ENLARGED_FROM = 0.5  # share of the run
ENLARGED_SHARE = 0.75  # of the optimizers, from the best: the others may end outside the panel


def write_curves(
    tables: Sequence[Table],
    folder: Path,
    names: Iterable[str],
    highlight: str = "",
    formats: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """Write `curves-<task>.<format>` for each task among the tables that has a curve; returns their paths.

    `names` are all optimizers of the records, so that each has the same colour for all tasks; `highlight` is
    emphasised.
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
    """Draw a row of panels a table: validation metric over the run (left), and its end enlarged (right)."""
    figure = new_figure(9.6, 3.4 * len(tables))
    labels = {contender.label for table in tables for contender in table.comparison.contenders}
    styles = styles_of({*names, *labels}, tables[0].reference, highlight)
    rows = figure.subfigures(len(tables), 1, squeeze=False)[:, 0]
    for row, table in zip(rows, tables, strict=True):
        _draw_row(row, table, styles, highlight)
    rows[-1].supxlabel(textwrap.fill(NOTE, 170), x=0.01, ha="left", fontsize=7, color="#555555")
    return figure


def _draw_row(row: SubFigure, table: Table, styles: Mapping[str, Style], highlight: str) -> None:
    comparison = table.comparison
    metric, goal = comparison.metric or "unknown", comparison.goal or ""
    curves = [read_curve(contender, metric) for contender in comparison.contenders]
    sign = -1 if goal == "max" else 1
    curves.sort(key=lambda curve: (math.isnan(curve.last), 0 if math.isnan(curve.last) else sign * curve.last))
    low, high, logarithmic = _limits(curves, goal)
    panels = row.subplots(1, 2)
    worst = high if goal == "min" else low
    for curve in curves:
        band = len(curves) <= BANDS_FOR or curve.optim in (table.reference, highlight)
        for panel in panels:
            _draw_curve(panel, curve, styles[curve.optim], (low, high), worst, band)
    for panel in panels:
        panel.set_xlim(left=0)
        panel.set_xlabel("training step")
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        panel.xaxis.set_major_formatter(lambda x, _: f"{x:g}" if x < 10_000 else f"{x / 1000:g}k")
    _enlarge(panels[1], curves, {table.reference, highlight})
    target = next((curve.last for curve in curves if curve.optim == table.reference), math.nan)
    if math.isfinite(target):
        panels[1].axhline(target, color="#555555", linestyle="--", linewidth=0.8, zorder=1)
    if logarithmic:
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panels[0].yaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylim(low, high)
    panels[0].set_ylabel(f"validation {metric_name(comparison)}\n({DIRECTION.get(goal, 'direction unknown')})")
    for panel in panels:
        plot_style.write_in_unit(panel.yaxis, table)
    panels[1].legend(
        handles=[_handle(curve, styles[curve.optim]) for curve in curves],
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        frameon=False,
        fontsize=7,
        labelspacing=0.9,
    )
    untuned = "" if table.tuned else f" ({caption(table)})"
    row.suptitle(textwrap.fill(plot_style.label(table) + untuned, 165), x=0.01, ha="left", fontsize=8)


def _draw_curve(
    panel: Axes,
    curve: Curve,
    style: Style,
    limits: tuple[float, float],
    worst: float,
    band: bool,
) -> None:
    """Draw one optimizer in one panel; `worst` is the position of a run that diverged before its first measurement."""
    look: dict[str, Any] = {"color": style.colour, "zorder": 2 + style.width}
    if len(curve.mean):
        at = curve.mean["step"]
        marker = "o" if len(at) <= 12 else ""
        line = look | {"linestyle": style.dashes, "linewidth": style.width}
        panel.plot(at, curve.mean["mean"], marker=marker, markersize=3, **line)
        if band:
            panel.fill_between(at, curve.mean["low"], curve.mean["high"], alpha=0.15, linewidth=0, **look)
    for stop in curve.stops:
        if math.isnan(stop.step):
            continue
        x = [*stop.values["step"], stop.step]
        y = [*stop.values["value"].clip(*limits)]
        y.append(y[-1] if y else worst)
        panel.plot(x, y, linestyle=":", linewidth=1, **look)
        panel.plot(stop.step, y[-1], marker="x", markersize=6, markeredgewidth=1.6, clip_on=False, **look)


def _enlarge(panel: Axes, curves: Sequence[Curve], always: Container[str]) -> None:
    """Limit a panel to the second half of the run, and to the values between which most optimizers end.

    Args:
        panel: its curves are drawn.
        curves: the best final figure first, those without one last.
        always: optimizers that are always inside.
    """
    ended = [curve for curve in curves if not math.isnan(curve.last)]
    most = max(2, math.ceil(ENLARGED_SHARE * len(ended)))
    kept = [curve for place, curve in enumerate(ended) if place < most or curve.optim in always]
    last = max((curve.mean["step"].max() for curve in kept), default=0.0)
    ends = [curve.mean[curve.mean["step"] >= ENLARGED_FROM * last] for curve in kept]
    values = [value for end in ends for value in (end["low"].iloc[-1], end["high"].iloc[-1], end["mean"].median())]
    if not values or last == 0:
        return
    pad = 0.06 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 0.5
    panel.set_xlim(ENLARGED_FROM * last, last * 1.01)
    panel.set_ylim(min(values) - pad, max(values) + pad)


def _limits(curves: Sequence[Curve], goal: str) -> tuple[float, float, bool]:
    """Choose the vertical range by the runs that completed, and whether it is logarithmic.

    A diverged run may leave the range: its values would compress the others into a line.
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
