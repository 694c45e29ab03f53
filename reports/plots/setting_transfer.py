"""The figure of how the best learning rate and weight decay move with width, number of steps and batch size."""

from __future__ import annotations

import itertools
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
from reports.tables.setting_transfer import Ladder, Rule, Study, chosen_setting, is_open

WORDS = {"lr": "peak learning rate", "weight_decay": "weight decay"}
NOTE = (
    "Points: the chosen setting of each tuned study, hollow where a side of it was not tried; lines join studies "
    "that differ in one factor. Bars: from the smallest to the largest value among the settings that tie with it; an "
    "arrow where such a value is the edge of what was tried. Crosses: what the rule of scripts/suggest.py makes of "
    "AdamW's chosen setting."
)
BESIDE = 0.16  # of the distance between two studies, so that both optimizers' bars are seen
GAP = 0.6  # between two ladders


def write_transfer(
    ladders: Sequence[Ladder], rule: Rule, folder: Path, stem: str, formats: Sequence[str] = ("svg",)
) -> list[Path]:
    """Write the figure, a row of panels a task; none without a ladder."""
    return plot_style.save(lambda: draw_transfer(ladders, rule), folder, stem, formats) if ladders else []


def draw_transfer(ladders: Sequence[Ladder], rule: Rule) -> Figure:
    """Draw for each task a panel of learning rates and one of weight decays, a place a study."""
    tasks = [(task, list(group)) for task, group in itertools.groupby(ladders, lambda ladder: ladder.task)]
    figure = new_figure(9.0, 2.7 * len(tasks) + 1.1)
    panels = figure.subplots(len(tasks), len(SETTING), squeeze=False)
    for row, (task, of_task) in zip(panels, tasks, strict=True):
        for panel, axis in zip(row, SETTING, strict=True):
            _draw_axis(panel, of_task, rule, axis)
            panel.set_title(task, fontsize=8)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)
    columns = int(figure.get_figwidth() * 14) + 10
    figure.supxlabel(textwrap.fill(NOTE, columns), x=0.01, ha="left", fontsize=7, color="#555555")
    return figure


def _draw_axis(panel: Axes, ladders: Sequence[Ladder], rule: Rule, axis: str) -> None:
    panel.set_yscale("log")
    places: list[float] = []
    labels: list[str] = []
    for ladder in ladders:
        start = places[-1] + 1 + GAP if places else 0.0
        at = [start + step for step in range(len(ladder.studies))]
        _draw_ladder(panel, ladder, at, rule, axis, labelled=not places)
        places += at
        labels += ["\n".join([*ladder.factor.split(), study.size]) for study in ladder.studies]
    panel.set_xticks(places, labels, fontsize=6.5)
    panel.set_xlim(-0.5, places[-1] + 0.5)
    panel.grid(False, axis="x")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    panel.yaxis.set_major_formatter(lambda value, _: short_number(value))
    panel.yaxis.set_minor_locator(plot_style.no_ticks())
    panel.set_ylabel(WORDS[axis])


def _draw_ladder(
    panel: Axes, ladder: Ladder, places: Sequence[float], rule: Rule, axis: str, *, labelled: bool
) -> None:
    styles = styles_of((), REFERENCE, SUBJECT)
    for optim, shift in ((REFERENCE, -BESIDE), (SUBJECT, BESIDE)):
        colour = styles[optim].colour
        shifted = [place + shift for place in places]
        for place, study in zip(shifted, ladder.studies, strict=True):
            _draw_ties(panel, study, optim, place, axis, colour)
        chosen = [chosen_setting(study, optim)[SETTING.index(axis)] for study in ladder.studies]
        panel.plot(shifted, chosen, "-o", color=colour, lw=0.8, ms=5, label=optim if labelled else None)
        for place, value, study in zip(shifted, chosen, ladder.studies, strict=True):
            if is_open(study.contender(optim), axis):
                panel.plot([place], [value], "o", color=colour, ms=5, markerfacecolor="white")
    suggested = [rule(chosen_setting(study, REFERENCE))[SETTING.index(axis)] for study in ladder.studies]
    label = f"{SUBJECT} by the rule" if labelled else None
    panel.plot([place + BESIDE for place in places], suggested, "x", color=styles[SUBJECT].colour, label=label)


def _draw_ties(panel: Axes, study: Study, optim: str, place: float, axis: str, colour: str) -> None:
    """Draw a bar over the values that tie, with an arrow at an end that is open."""
    contender = study.contender(optim)
    _, low, high = tied_values(contender, axis)
    tried = contender.settings[axis]
    ends = max(low, tried.min()), min(high, tried.max())
    panel.plot([place, place], ends, color=colour, lw=1.2, alpha=0.6, solid_capstyle="butt")
    for end, arrow, at_edge in ((ends[0], "v", low == 0), (ends[1], "^", math.isinf(high))):
        panel.plot([place], [end], arrow if at_edge else "_", color=colour, ms=4)
