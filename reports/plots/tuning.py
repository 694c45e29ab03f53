"""Figures of tuning: validation metric by learning rate and weight decay, by number of trials, by batch size.

The same records give the same bytes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from reports.number_format import short_number
from reports.plots import plot_style
from reports.plots.plot_style import new_figure, styles_of
from reports.statistics.selection import Contender
from reports.statistics.setting_grid import colour_limits, setting_grid
from reports.tables.comparison import Table
from reports.tables.names import metric_name
from reports.tables.render import DIRECTION
from reports.tables.units import metric_in_unit, unit_of

HEATMAP_NOTE = (
    "Validation {metric} of each setting ({direction}), one colour scale for all, beyond its arrow one colour. "
    "Thick frame: the chosen setting, † where a side of it was not tried. Thin frame: ties with it, by the spread over "
    "seeds. Cross: diverged. Empty: not tried."
)
COLUMNS = 4  # panels in a row


def write_heatmaps(table: Table, folder: Path, stem: str, formats: Sequence[str] = ("svg",)) -> list[Path]:
    """Write the heatmaps of one comparison side by side, as the paper's Figure 8; none if nothing was swept."""
    swept = [c for c in table.comparison.contenders if len(c.settings) > 1]
    return plot_style.save(partial(draw_heatmaps, table, swept), folder, stem, formats) if swept else []


def draw_heatmaps(table: Table, contenders: Sequence[Contender]) -> Figure:
    """Draw a panel an optimizer: weight decay upwards, learning rate to the right."""
    grids = [setting_grid(contender) for contender in contenders]
    low, high = colour_limits(grids, table.comparison.goal or "max")
    unit = unit_of(table)
    rows = math.ceil(len(grids) / COLUMNS)
    width = min(len(grids), COLUMNS)
    figure = new_figure(2.4 * width + 0.6, 2.3 * rows + 0.9)
    panels = figure.subplots(rows, width, squeeze=False)
    for panel in panels.flat[len(grids) :]:
        panel.set_axis_off()
    image = None
    for panel, contender, grid in zip(panels.flat, contenders, grids, strict=False):
        values = grid.values
        image = panel.imshow(
            np.ma.masked_invalid(values),
            origin="lower",
            vmin=low,
            vmax=high,
            cmap="viridis" if table.comparison.goal == "max" else "viridis_r",
            aspect="auto",
        )
        panel.grid(False)
        panel.set_xticks(range(values.shape[1]), [short_number(rate) for rate in grid.learning_rates], fontsize=7)
        panel.tick_params(axis="x", labelrotation=90 if values.shape[1] > 4 else 0)
        panel.set_yticks(range(values.shape[0]), [short_number(decay) for decay in grid.weight_decays], fontsize=7)
        panel.set_title(contender.label + " †" * grid.open, fontsize=8)
        dark = (lambda v: v < (low + high) / 2) if table.comparison.goal == "max" else (lambda v: v > (low + high) / 2)
        for row, column in np.ndindex(*values.shape):
            if grid.diverged[row, column]:
                panel.text(column, row, "×", ha="center", va="center", fontsize=12, color="#D55E00")
            elif math.isfinite(values[row, column]):
                value = float(values[row, column])
                colour = "white" if dark(value) else "black"
                text = f"{unit.times * value:.1f}" if unit.sign else short_number(value)
                panel.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
        for row, column in np.argwhere(grid.tied):
            corner = column - 0.44, row - 0.44
            panel.add_patch(Rectangle(corner, 0.88, 0.88, fill=False, edgecolor="#D55E00", linewidth=0.7))
        if grid.chosen is not None:
            corner = grid.chosen[1] - 0.5, grid.chosen[0] - 0.5
            panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#D55E00", linewidth=2))
    for panel in panels[:, 0]:
        panel.set_ylabel("weight decay")
    for panel in panels[-1]:
        panel.set_xlabel("peak learning rate")
    if image is not None:
        beyond = "min" if table.comparison.goal == "max" else "max"
        bar = figure.colorbar(image, ax=panels, shrink=0.8, pad=0.01, extend=beyond)
        plot_style.write_in_unit(bar.ax.yaxis, table)
    direction = DIRECTION.get(table.comparison.goal or "", "direction unknown")
    note = HEATMAP_NOTE.format(metric=metric_in_unit(table), direction=direction)
    _title(figure, table, note)
    return figure


def write_tuning_curves(
    table: Table, curves: dict[str, pd.DataFrame], folder: Path, stem: str, names: Iterable[str], highlight: str
) -> list[Path]:
    """Write the expected best of k trials of each optimizer; `curves` has columns k, expected, low, high."""

    def draw() -> Figure:
        figure = new_figure(6.4, 3.6)
        panel = figure.subplots()
        styles = styles_of({*names, *curves}, table.reference, highlight)
        for label, curve in curves.items():
            style = styles[label]
            panel.plot(
                curve["k"], curve["expected"], color=style.colour, linestyle=style.dashes, lw=style.width, label=label
            )
            panel.fill_between(curve["k"], curve["low"], curve["high"], color=style.colour, alpha=0.08, linewidth=0)
        panel.set_xlabel("trials")
        panel.set_ylabel(f"expected best validation\n{metric_name(table.comparison)}")
        _frame(panel, [curve["expected"] for curve in curves.values()])
        plot_style.write_in_unit(panel.yaxis, table)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=4))
        panel.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=7)
        _title(
            figure,
            table,
            "Expected best of k trials drawn at random from those that were run, each by its mean over trial seeds. "
            "Bands (opda) are for independent draws; these are points of a grid, so that they have no stated coverage, "
            "and they reach beyond the frame.",
        )
        return figure

    return plot_style.save(draw, folder, stem) if curves else []


def _frame(panel: Axes, lines: Sequence[pd.Series[float]]) -> None:
    """Show the range of the lines, with a margin: bands are many times as wide."""
    low, high = min(line.min() for line in lines), max(line.max() for line in lines)
    margin = 0.15 * (high - low) or 0.05 * abs(high) or 0.05
    panel.set_ylim(low - margin, high + margin)


def write_batch_sizes(
    group: Sequence[Table],
    folder: Path,
    stem: str,
    names: Iterable[str],
    highlight: str,
    formats: Sequence[str] = ("svg",),
) -> list[Path]:
    """Write test (or validation) metric against batch size, as the paper's Figure 8 left, with 95% intervals."""

    def draw() -> Figure:
        figure = new_figure(6.4, 3.6)
        panel = figure.subplots()
        labels = sorted({row.optim for table in group for row in table.rows})
        styles = styles_of({*names, *labels}, group[0].reference, highlight)
        for label in labels:
            rows = [(t.comparison.batch_size, row) for t in group for row in t.rows if row.optim == label]
            sizes = [size or 0 for size, _ in rows]
            values = [row.compared(group[0].split) for _, row in rows]
            means = [mean for mean, _, _ in values]
            error = np.nan_to_num([[mean - low for mean, low, _ in values], [high - mean for mean, _, high in values]])
            style = styles[label]
            panel.errorbar(
                sizes, means, yerr=error, color=style.colour, lw=style.width, marker="o", ms=3, capsize=2, label=label
            )
        panel.set_xscale("log", base=2)
        panel.set_xticks(sorted({table.comparison.batch_size or 0 for table in group}))
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set_xlabel("batch size (the same number of epochs)")
        panel.set_ylabel(f"{group[0].split} {metric_name(group[0].comparison)}")
        plot_style.write_in_unit(panel.yaxis, group[0])
        panel.legend(frameon=False, fontsize=7)
        tuned = all(table.tuned for table in group)
        _title(
            figure,
            group[0],
            f"{'Each point tuned by itself' if tuned else 'Untuned settings'}; bars: 95% t intervals over seeds.",
            length=False,
        )
        return figure

    return plot_style.save(draw, folder, stem, formats)


def write_speed_memory(frame: pd.DataFrame, folder: Path, stem: str, reference: str, highlight: str) -> list[Path]:
    """Write steps per second over the reference's beside bytes of optimizer state, a row an optimizer, by task.

    `frame` has columns task, optim, ratio, low, high and bytes_per_parameter.
    """

    def draw() -> Figure:
        names = frame["optim"].str.partition(" (")[0]
        styles = styles_of(names.unique(), reference, highlight)
        of_reference = names == reference  # each kind of its step is 1, by definition: one row stands for all
        shown = frame.assign(colour=[styles[name].colour for name in names])
        shown["optim"] = frame["optim"].where(~of_reference, reference)
        shown = shown[shown["ratio"].notna()].drop_duplicates(["task", "optim"]).sort_values("ratio", kind="stable")
        by_task = list(shown.groupby("task"))
        figure = new_figure(5.0 * len(by_task) + 0.4, 0.2 * max(len(rows) for _, rows in by_task) + 1.1)
        panels = figure.subplots(1, 2 * len(by_task), squeeze=False, width_ratios=[2, 1] * len(by_task))[0]
        for (task, rows), speed, state in zip(by_task, panels[::2], panels[1::2], strict=True):
            _speed_and_state(rows, speed, state)
            speed.set_title(task, fontsize=8)
            speed.set_xlabel(f"steps per second over {reference}'s", fontsize=7)
        note = "Timed in turn in one process; lines: quartiles of the rounds. State: bytes a trained parameter."
        figure.supxlabel(note, x=0.01, ha="left", fontsize=7)
        return figure

    return plot_style.save(draw, folder, stem) if len(frame) else []


def _speed_and_state(rows: pd.DataFrame, speed: Axes, state: Axes) -> None:
    """Draw a task's rows: speeds with their quartiles to the left, bytes of state as bars to the right."""
    for place, row in enumerate(rows.to_dict("records")):
        error = [[row["ratio"] - row["low"]], [row["high"] - row["ratio"]]]
        speed.errorbar(row["ratio"], place, xerr=error, color=row["colour"], marker="o", ms=4, capsize=2)
        state.barh(place, row["bytes_per_parameter"], height=0.6, color=row["colour"])
        state.annotate(
            f"{row['bytes_per_parameter']:.3g}",
            (row["bytes_per_parameter"], place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    speed.axvline(1.0, color="#999999", lw=0.8, zorder=0)
    speed.set_yticks(range(len(rows)), rows["optim"], fontsize=7)
    state.set_yticks([])
    state.set_xlim(0, 1.2 * rows["bytes_per_parameter"].max())
    state.set_xlabel("optimizer state", fontsize=7)
    state.set_ylim(speed.get_ylim())


def _title(figure: Figure, table: Table, note: str, length: bool = True) -> None:
    columns = int(figure.get_figwidth() * 14)
    text = textwrap.fill(plot_style.label(table, length), columns)
    figure.suptitle(text, x=0.01, ha="left", fontsize=8)
    figure.supxlabel(textwrap.fill(note, columns + 10), x=0.01, ha="left", fontsize=7, color="#555555")
