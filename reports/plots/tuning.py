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
        plot_style.write_in_unit(panel.yaxis, table)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=4))
        panel.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=7)
        _title(
            figure,
            table,
            "Expected best of k trials drawn at random from those that were run, on one seed. Bands (opda) are for "
            "independent draws; these are points of a grid, so that they have no stated coverage.",
        )
        return figure

    return plot_style.save(draw, folder, stem) if curves else []


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
    """Write steps per second over the reference's against bytes of optimizer state a parameter, a panel a task.

    `frame` has columns task, optim, ratio, low, high and bytes_per_parameter.
    """

    def draw() -> Figure:
        tasks = sorted(frame["task"].unique())
        figure = new_figure(5.0 * len(tasks) + 0.4, 3.4)
        panels: list[Axes] = list(figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0])
        names = frame["optim"].str.partition(" (")[0]
        styles = styles_of(names.unique(), reference, highlight)
        of_reference = names == reference  # each kind of its step is 1, by definition: one point stands for all
        shown = frame.assign(name=names, optim=frame["optim"].where(~of_reference, reference))
        shown = shown.drop_duplicates(["task", "optim"])
        for panel, task in zip(panels, tasks, strict=True):
            for row in shown[(shown["task"] == task) & shown["ratio"].notna()].to_dict("records"):
                error = [[row["ratio"] - row["low"]], [row["high"] - row["ratio"]]]
                colour, place = styles[row["name"]].colour, (row["bytes_per_parameter"], row["ratio"])
                panel.errorbar(*place, yerr=error, color=colour, marker="o", ms=4, capsize=2)
                left = row["optim"] == reference  # of its point, where no other label stands
                panel.annotate(
                    row["optim"],
                    place,
                    (-5 if left else 5, 3),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    fontsize=7,
                )
            panel.axhline(1.0, color="#999999", lw=0.8)
            panel.set_title(task, fontsize=8)
            panel.set_xlabel("optimizer state, bytes a parameter")
            panel.set_xlim(left=0)
        panels[0].set_ylabel(f"steps per second over {reference}'s")
        figure.supxlabel("Timed in turn in one process; bars: quartiles of the rounds.", x=0.01, ha="left", fontsize=7)
        return figure

    return plot_style.save(draw, folder, stem) if len(frame) else []


def _title(figure: Figure, table: Table, note: str, length: bool = True) -> None:
    columns = int(figure.get_figwidth() * 14)
    text = textwrap.fill(plot_style.label(table, length), columns)
    figure.suptitle(text, x=0.01, ha="left", fontsize=8)
    figure.supxlabel(textwrap.fill(note, columns + 10), x=0.01, ha="left", fontsize=7, color="#555555")
