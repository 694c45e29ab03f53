"""The style of all figures: colours by optimizer, and reproducible files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Locator, NullLocator

from reports.number_format import short_count
from reports.statistics.families import FIELD
from reports.tables.comparison import Table
from reports.tables.names import metric_name, task_name
from reports.tables.render import DIRECTION
from reports.tables.units import unit_of

# Okabe and Ito's palette, distinguishable with all kinds of colour vision. Vermilion is kept for the highlighted
# optimizer and black for the reference; yellow, faint on white, comes last.
HIGHLIGHT_COLOUR, REFERENCE_COLOUR = "#D55E00", "#000000"
OTHERS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#666666", "#F0E442")
# Each of these has a fixed colour, whichever others a figure shows; further optimizers get the colours after them.
PLACES = ("adafactor", "radam", "nadam", "adabelief", "amsgrad", "sgd")
# So do the optimizers of the field of 2026: dotted and dash-dotted lines, which further ones rarely get.
DASHES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
PARAMETERS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E8E8E8",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "lion-bench",  # without it, ids inside an SVG are random
    "text.parse_math": False,  # names and causes are not formulas, and a $ in one would raise an error
}


TIMELESS: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


@dataclass(frozen=True)
class Style:
    """How one optimizer is drawn, the same in every figure."""

    colour: str
    dashes: Literal["-", "--", ":", "-."]
    width: float = 1.3


def styles_of(names: Iterable[str], reference: str, highlight: str) -> dict[str, Style]:
    """Give each optimizer its style: its fixed colour, or one by its rank among the sorted further names."""
    shown = set(names) - {reference, highlight}
    further = sorted(shown - {*PLACES, *FIELD})
    places = [*enumerate([*PLACES, *further]), *enumerate(FIELD, start=DASHES.index(":") * len(OTHERS))]
    styles = {
        name: Style(OTHERS[place % len(OTHERS)], DASHES[place // len(OTHERS) % len(DASHES)])
        for place, name in places
        if name in shown
    }
    return {**styles, reference: Style(REFERENCE_COLOUR, "-"), highlight: Style(HIGHLIGHT_COLOUR, "-", width=2.2)}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, without a window or matplotlib's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def label(table: Table, length: bool = True) -> str:
    """Say in a line what a figure is of; the table of the same task says all settings of model and data."""
    c = table.comparison
    known = task_name(c)
    name = f"{known} ({c.task})" if known != c.task else f"{c.task}, {c.model or 'unknown model'} on {c.data}"
    facts = [f"{metric_name(c)}, {DIRECTION.get(c.goal or '', 'direction unknown')}"]
    facts += [] if c.num_parameters is None else [f"{short_count(c.num_parameters)} parameters"]
    facts += [f"{c.steps:,} steps of {c.batch_size}"] if length and c.steps and c.batch_size else []
    facts += [table.note] if table.note else []
    return f"{name}, scale {c.scale or 'unknown'}: {', '.join(facts)}"


def write_in_unit(axis: Axis, table: Table) -> None:
    """Write the ticks of an axis of figures in their unit."""
    unit = unit_of(table)
    if unit.sign:
        axis.set_major_formatter(lambda value, _: f"{unit.times * value:.6g}{unit.sign}")


def no_ticks() -> Locator:
    """A locator that places none, for minor ticks."""
    return NullLocator()


def save(draw: Callable[[], Figure], folder: Path, stem: str, formats: Iterable[str] = ("svg",)) -> list[Path]:
    """Draw with our settings only, and write `<stem>.svg` and `<stem>.png`; returns the paths."""
    written = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(PARAMETERS)
        figure = draw()
        for name in formats:
            written.append(folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', stem)}.{name}")
            figure.savefig(written[-1], dpi=200, metadata=TIMELESS[name])
    return written
