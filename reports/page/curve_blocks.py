"""Curves on the page: by training step, by the number of trials, by batch size."""

from __future__ import annotations

import math

import pandas as pd

from reports.page import content as page
from reports.statistics.learning_curves import Curve, read_curve
from reports.tables.comparison import Table
from reports.tables.render import titles
from reports.tables.units import metric_in_unit, unit_of


def training_curves(table: Table) -> page.CurveBlock | None:
    """Return the validation metric by training step, None if nothing was measured."""
    metric, times = table.comparison.metric or "", unit_of(table).times
    read = [read_curve(contender, metric) for contender in table.comparison.contenders]
    if all(curve.empty for curve in read):
        return None
    views = [
        page.View(label, [_series(curve, table.comparison.task, column, times) for curve in read])
        for label, column in (("training step", "step"), ("seconds since the start (shared machine)", "seconds"))
    ]
    finals = [value for curve in read for value in curve.mean["mean"]]
    log = table.comparison.goal == "min" and min(finals, default=0) > 0 and max(finals) > 20 * min(finals)
    target = None if math.isnan(table.target) else times * table.target
    fresh = "fresh seeds" if table.tuned else "seeds"
    words = (
        f"Validation {metric_in_unit(table)} along training: mean over {fresh} at the chosen setting, band "
        f"from the smallest to the largest seed. Level line: {table.reference}'s final value."
    )
    return page.CurveBlock(words, f"validation {metric_in_unit(table)}", views, y_log=bool(log), target=target)


def _series(curve: Curve, task: str, column: str, times: float) -> page.Series:
    mean = curve.mean.sort_values(column)
    mean = mean.assign(**{name: times * mean[name].astype(float) for name in ("mean", "low", "high")})
    points = list(zip(mean[column].astype(float), mean["mean"], strict=True))
    stops = []
    for stop in curve.stops:
        at, value = (stop.step, stop.seconds)[column == "seconds"], stop.values["value"]
        if len(value) and math.isfinite(at):
            stops.append((float(at), times * float(value.iloc[-1])))
    optim = curve.optim.partition(" ")[0]
    low, high = (mean[end].tolist() for end in ("low", "high"))
    label = f"{curve.optim}: {curve.setting}"
    return page.Series(optim, label, points, low, high, task, curve.optim != optim, stops)


def trial_curves(table: Table, curves: dict[str, pd.DataFrame]) -> page.CurveBlock:
    """Return the expected best of k trials, `curves` by optimizer with columns k and expected."""
    series = []
    for label, curve in curves.items():
        expected = unit_of(table).times * curve["expected"].astype(float)
        points = list(zip(curve["k"].astype(float), expected, strict=True))
        series.append(page.Series(label.partition(" ")[0], label, points, task=table.comparison.task))
    words = "Expected best of k trials drawn from those that were run: what an amount of tuning buys."
    return page.CurveBlock(words, f"validation {metric_in_unit(table)}", [page.View("trials", series)])


def batch_size_curves(group: list[Table]) -> page.CurveBlock:
    """Return the compared metric against the batch size, from comparisons that differ in nothing else."""
    labels = sorted({row.optim for table in group for row in table.rows})
    series, times = [], unit_of(group[0]).times
    for label in labels:
        measured = [
            (t.comparison.batch_size, [times * value for value in row.compared(t.split)])
            for t in group
            for row in t.rows
            if row.optim == label
        ]
        measured = [(size, values) for size, values in measured if math.isfinite(values[0])]
        points = [(float(size or 0), values[0]) for size, values in measured]
        banded = all(math.isfinite(values[1]) for _, values in measured)
        low, high = ([values[end] for _, values in measured] if banded else [] for end in (1, 2))
        optim = label.partition(" ")[0]
        series.append(page.Series(optim, label, points, low, high, group[0].comparison.task, optim != label))
    first = group[0]
    tuned = all(table.tuned for table in group)
    words = (
        f"{titles([first])[0]}: {'each point tuned by itself' if tuned else 'untuned settings'}, "
        "95% t intervals over seeds, the same number of epochs."
    )
    y_label = f"{first.split} {metric_in_unit(first)}"
    return page.CurveBlock(words, y_label, [page.View("batch size", series, x_log=True)])
