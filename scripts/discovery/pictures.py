"""Figures of the program search: best fitness, shares of cache hits and redundant statements, meta-overfitting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter

from reports.plots import plot_style
from reports.plots.plot_style import HIGHLIGHT_COLOUR, OTHERS, REFERENCE_COLOUR

STYLES = {
    "search": ("evolution", HIGHLIGHT_COLOUR, "-"),
    "constants": ("AdamW's constants evolved", REFERENCE_COLOUR, "--"),
    "random": ("random search", OTHERS[0], ":"),
}
SHARES = {"cache_hits": ("cache hits", OTHERS[0]), "redundant": ("redundant statements", OTHERS[1])}
PAPER = {"cache_hits": 0.891, "redundant": 0.698}  # at the end of the paper's searches, section 3.2


def draw_all(data: dict[str, Any], folder: Path) -> list[Path]:
    """Write the figures that the data suffice for; returns their paths."""
    written = []
    if data["searches"]:
        written += plot_style.save(partial(draw_fitness, data["searches"]), folder, "fitness")
        written += plot_style.save(partial(draw_shares, data["searches"]), folder, "shares")
    if data["funnel"] is not None:
        written += plot_style.save(partial(draw_overfitting, data["funnel"]), folder, "overfitting")
    return written


def _figure(panels: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(3.6 * panels + 1.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _mean(curves: Sequence[dict[str, Any]], x: str, y: str) -> tuple[Any, Any, Any]:
    """The mean and its standard error over searches, on the grid of the shortest; nothing where most is missing."""
    filled = []
    for curve in curves:
        measured = [(a, b) for a, b in zip(curve[x], curve[y], strict=True) if b is not None]
        if 2 * len(measured) > len(curve[y]):
            filled.append(([a for a, _ in measured], [b for _, b in measured]))
    if len(filled) < len(curves) or not filled:
        return np.array([]), np.array([]), np.array([])
    grid = np.linspace(max(xs[0] for xs, _ in filled), min(xs[-1] for xs, _ in filled), 50)
    values = np.stack([np.interp(grid, xs, ys) for xs, ys in filled])
    error = values.std(0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.zeros(len(grid))
    return grid, values.mean(0), error


def draw_fitness(searches: Sequence[dict[str, Any]]) -> Figure:
    """Draw the best so far, and the population's median, against evaluations: the paper's Figure 2, left."""
    figure, (best, median) = _figure(2)
    for kind, (label, colour, dashes) in STYLES.items():
        curves = [search["curves"][kind] for search in searches]
        for panel, x, y in ((best, "evaluations", "best"), (median, "evaluated", "median")):
            grid, mean, error = _mean(curves, x, y)
            if len(grid):
                panel.plot(grid, mean, color=colour, linestyle=dashes, label=label)
                panel.fill_between(grid, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    lowest = min(value for s in searches for value in s["curves"]["search"]["best"] if value is not None)
    swept = {}
    for name, colour in (("AdamW", OTHERS[1]), ("Lion", OTHERS[2])):
        levels = [score for s in searches if (score := s["scores"][name]["search"]) is not None]
        if levels:
            swept[name] = float(np.mean(levels))
            best.axhline(swept[name], color=colour, linewidth=1, label=f"{name}, learning rate swept")
    if swept:
        span = max(swept.values()) - lowest
        best.set_ylim(lowest - 0.1 * span, max(swept.values()) + 0.4 * span)
    median.set_yscale("log" if median.lines else "linear")
    median.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if median.lines else AutoLocator())
    median.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    median.yaxis.set_minor_formatter(NullFormatter())
    for panel, title in ((best, "best so far"), (median, "median of the population")):
        panel.set_title(f"{title}, mean of {len(searches)} searches", fontsize=8)
        panel.set_xlabel("programs evaluated; band: standard error")
    best.set_ylabel("validation loss on the search's own task")
    figure.legend(*best.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=7)
    return figure


def draw_shares(searches: Sequence[dict[str, Any]]) -> Figure:
    """Draw what share of programs the cache knew and of statements did nothing: the paper's Figure 2, right."""
    figure, (panel,) = _figure(1)
    curves = [search["curves"]["search"] for search in searches]
    for share, (label, colour) in SHARES.items():
        grid, mean, error = _mean(curves, "programs", share)
        panel.plot(grid, mean, color=colour, label=label)
        panel.fill_between(grid, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
        panel.axhline(PAPER[share], color=colour, linestyle=":", linewidth=1, label=f"{label}, the paper's at its end")
    panel.set_ylim(0, 1)
    panel.set_xlim(left=0)
    panel.set_xlabel("programs generated")
    panel.set_ylabel("share since the beginning")
    panel.legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def draw_overfitting(funnel: dict[str, Any]) -> Figure:
    """Draw the loss on the first rung of each search's best at moments of the search: the paper's Figure 3."""
    figure, (search_task, larger) = _figure(2)
    floor = funnel["floors"][0]
    for place, (name, rows) in enumerate(sorted(by_search(floor["results"]).items())):
        colour, dashes = OTHERS[place % len(OTHERS)], plot_style.DASHES[place // len(OTHERS) % len(plot_style.DASHES)]
        for panel, figure_name in ((search_task, "fitness"), (larger, "mean")):
            points = [(row["progress"], row[figure_name]) for row in rows if row[figure_name] is not None]
            if points:
                x, y = zip(*points, (1.0, points[-1][1]), strict=True)
                look: dict[str, Any] = {"color": colour, "linestyle": dashes, "label": name}
                panel.plot(x, y, drawstyle="steps-post", marker="o", markersize=3, markevery=range(len(points)), **look)
    for baseline, colour in zip(floor["baselines"], (REFERENCE_COLOUR, HIGHLIGHT_COLOUR), strict=True):
        if baseline["mean"] is not None:
            larger.axhline(baseline["mean"], color=colour, linestyle="--", linewidth=1, label=baseline["name"])
    search_task.set_ylabel("validation loss")
    search_task.set_title("on the search's own task", fontsize=8)
    larger.set_title(f"on {floor['rung']}, fresh seeds and examples", fontsize=8)
    for panel in (search_task, larger):
        panel.set_xlabel("share of the search after which it was the best")
    larger.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def by_search(results: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The best-so-far programs of each search, in the order of time."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in sorted((row for row in results if row["progress"] is not None), key=lambda row: row["progress"]):
        by_name.setdefault(row["name"].split(" at ")[0], []).append(row)
    return by_name
