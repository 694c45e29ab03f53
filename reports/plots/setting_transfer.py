"""The figure of how the best learning rate and weight decay move with width, number of steps and batch size."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from reports.number_format import short_number
from reports.plots import plot_style
from reports.plots.plot_style import new_figure, styles_of
from reports.protocol import REFERENCE, SUBJECT
from reports.statistics.selection import SETTING
from reports.statistics.ties import tied_values
from reports.tables.names import task_name
from reports.tables.setting_transfer import Rule, Study

WORDS = {"lr": "peak learning rate", "weight_decay": "weight decay"}
NOTE = (
    "Points: the chosen setting of each tuned study. Bars: from the smallest to the largest value among the settings "
    "that tie with it; an arrow where such a value is the edge of what was tried. Crosses: what the rule of "
    "scripts/suggest.py makes of AdamW's chosen setting."
)
BESIDE = 0.16  # of the distance between two studies, so that both optimizers' bars are seen


def write_transfer(
    groups: Sequence[Sequence[Study]], rule: Rule, folder: Path, stem: str, formats: Sequence[str] = ("svg",)
) -> list[Path]:
    """Write the figure, a row of panels a task; none without a group."""
    return plot_style.save(lambda: draw_transfer(groups, rule), folder, stem, formats) if groups else []


def draw_transfer(groups: Sequence[Sequence[Study]], rule: Rule) -> Figure:
    """Draw for each task a panel of learning rates and one of weight decays, a place a study."""
    figure = new_figure(8.4, 2.6 * len(groups) + 1.1)
    panels = figure.subplots(len(groups), len(SETTING), squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        for place, (panel, axis) in enumerate(zip(row, SETTING, strict=True)):
            _draw_axis(panel, group, axis)
            rules = [rule(_chosen(study)) for study in group]
            panel.plot(
                [at + BESIDE for at in range(len(group))],
                [suggested[place] for suggested in rules],
                "x",
                color=styles_of((), REFERENCE, SUBJECT)[SUBJECT].colour,
                label=f"{SUBJECT} by the rule",
            )
            panel.set_title(task_name(group[0].table.comparison), fontsize=8)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)
    columns = int(figure.get_figwidth() * 14) + 10
    figure.supxlabel(textwrap.fill(NOTE, columns), x=0.01, ha="left", fontsize=7, color="#555555")
    return figure


def _draw_axis(panel: Axes, group: Sequence[Study], axis: str) -> None:
    styles = styles_of((), REFERENCE, SUBJECT)
    panel.set_yscale("log")
    for optim, shift in ((REFERENCE, -BESIDE), (SUBJECT, BESIDE)):
        colour = styles[optim].colour
        for place, study in enumerate(group):
            contender = study.contender(optim)
            value, low, high = tied_values(contender, axis)
            tried = contender.settings[axis]
            ends = max(low, tried.min()), min(high, tried.max())
            at = place + shift
            panel.plot([at, at], ends, color=colour, lw=1.2, solid_capstyle="butt")
            for end, marker, is_open in ((ends[0], "v", low == 0), (ends[1], "^", math.isinf(high))):
                panel.plot([at], [end], marker if is_open else "_", color=colour, ms=4)
            panel.plot([at], [value], "o", color=colour, ms=5, label=optim if place == 0 else None)
    panel.set_xticks(range(len(group)), [study.change.replace(" ", "\n") for study in group], fontsize=7)
    panel.set_xlim(-0.5, len(group) - 0.5)
    panel.grid(False, axis="x")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    panel.yaxis.set_major_formatter(lambda value, _: short_number(value))
    panel.yaxis.set_minor_locator(plot_style.no_ticks())
    panel.set_ylabel(WORDS[axis])


def _chosen(study: Study) -> tuple[float, float]:
    contender = study.contender(REFERENCE)
    return tied_values(contender, "lr")[0], tied_values(contender, "weight_decay")[0]
