"""The style of all figures: colours by optimizer, and reproducible files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Locator, NullLocator

from reports.statistics.families import FIELD

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
