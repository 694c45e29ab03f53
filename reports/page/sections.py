"""Fill the results page from tables, curves and verdicts."""

from __future__ import annotations

import math
from typing import Literal

import pandas as pd

from reports.number_format import slugs
from reports.page import content as page
from reports.protocol import SUBJECT
from reports.results import Results, facts, tuning_curves
from reports.statistics.learning_curves import Curve, read_curve
from reports.statistics.setting_grid import colour_limits, setting_grid
from reports.tables.comparison import Row, Table, batch_groups
from reports.tables.overviews import Grid, paper_grid, ranks_grid, speed_grid, summary_lines, survival_grid
from reports.tables.paper_comparison import paper_comparisons
from reports.tables.render import caption, cells, heading, legend, stopped, titles

NUMBERS = {  # columns of a comparison's table that are sorted by a number, and the row's number
    "lr": lambda row, split: row.lr,
    "weight decay": lambda row, split: row.weight_decay,
    "trials": lambda row, split: row.trials,
    "runs": lambda row, split: row.runs,
    "seeds": lambda row, split: row.seeds,
    "val": lambda row, split: row.val_mean,
    "test": lambda row, split: row.test_mean,
    "minus": lambda row, split: 0.0 if row.is_reference else row.difference,
    "steps to": lambda row, split: row.target_step,
    "steps/s over": lambda row, split: row.speed_ratio,
    "optimizer step, ms": lambda row, split: row.optimizer_step_ms,
    "optimizer state, MB": lambda row, split: row.optimizer_state_bytes,
}


def build(results: Results) -> page.Page:
    """Return the whole page."""
    tasks = [table.comparison.task for table in results.main]
    optimizers = set(results.runs["optim"])
    anchors = slugs(tasks)
    sections = [_task(table, results, f"task-{anchors[table.comparison.task]}") for table in results.main]
    others = [table for table in results.tables if all(table is not main for main in results.main)]
    over = [grid for grid in (ranks_grid(results.main), speed_grid(results.speeds, results.main)) if grid]
    if over:
        sections.append(
            page.Section("Over all tasks", "all-tasks", [], [_grid_block(grid, optimizers) for grid in over])
        )
    groups = batch_groups(results.tables)
    if groups:
        blocks: list[page.Block] = [_batch_sizes(group) for group in groups]
        sections.append(page.Section("Batch size", "batch-size", [], blocks))
    if others:
        blocks = [_table(table, f"{table.comparison.task}: {heading(table)}{_untuned(table)}") for table in others]
        sections.append(page.Section("Other conditions", "other-conditions", [], blocks))
    pairs: list[page.Block] = [
        _grid_block(paper_grid(entry), optimizers) for entry in paper_comparisons(results.tables)
    ]
    sections.append(page.Section("The paper beside us", "paper", [], pairs))
    claims: list[page.Block] = [
        page.VerdictBlock(
            [page.Verdict(v.claim, v.source, v.verdict, v.evidence, v.experiment) for v in results.verdicts]
        )
    ]
    text = ["Claims of the paper and of its critics, each judged by the records at the scale run and by nothing else."]
    sections.insert(0, page.Section("Claims", "claims", text, claims))
    summary = [*results.about["text"], *summary_lines(results.tables, SUBJECT)]
    assert len(set(tasks)) == len(tasks), "one main comparison a task"
    return page.Page(results.about["title"], summary, facts(results), sections)


def _untuned(table: Table) -> str:
    return "" if table.tuned else f". {caption(table)}"


def _task(table: Table, results: Results, anchor: str) -> page.Section:

    task = table.comparison.task
    blocks: list[page.Block] = [_table(table, caption(table))]
    if curve_block := _curves(table):
        blocks.append(curve_block)
    if heat := _heatmaps(table):
        blocks.append(heat)
    if curves := tuning_curves(table):
        blocks.append(_trials(table, curves))
    blocks.append(_grid_block(survival_grid([table]), set(results.runs["optim"])))
    return page.Section(task, anchor, [heading(table) + "."], blocks)


def _table(table: Table, caption: str) -> page.TableBlock:
    shown = cells(table)
    getters = [next((get for start, get in NUMBERS.items() if _is(name, start)), None) for name in shown.columns]
    columns = [
        page.Column(str(name), "text" if get is None else "number") for name, get in zip(shown, getters, strict=True)
    ]
    rows = []
    for row, texts in zip(table.rows, shown.itertuples(index=False), strict=True):
        made = []
        for column, get, text in zip(columns, getters, texts, strict=True):
            sort = None if get is None else _finite(get(row, table.split))
            runs = row.run_ids.split() if column.name in ("val", "test", "seeds") else []
            made.append(page.Cell(str(text), sort, runs=runs))
        rows.append(page.Row(made, optim=_optim(row), task=table.comparison.task))
    return page.TableBlock(caption, columns, rows, [*legend(table), *stopped(table)])


def _is(name: str, start: str) -> bool:
    return name == start or (start in ("minus", "steps to", "steps/s over") and start in name)


def _optim(row: Row) -> str:
    return row.optim.partition(" ")[0]


def _curves(table: Table) -> page.CurveBlock | None:
    metric = table.comparison.metric or ""
    read = [read_curve(contender, metric) for contender in table.comparison.contenders]
    if all(curve.empty for curve in read):
        return None
    views = [
        page.View(label, [_series(curve, table.comparison.task, column) for curve in read])
        for label, column in (("training step", "step"), ("seconds since the start (shared machine)", "seconds"))
    ]
    finals = [value for curve in read for value in curve.mean["mean"]]
    log = table.comparison.goal == "min" and min(finals, default=0) > 0 and max(finals) > 20 * min(finals)
    target = None if math.isnan(table.target) else table.target
    fresh = "fresh seeds" if table.tuned else "seeds"
    words = (
        f"Validation {metric} along training: mean over {fresh} at the chosen setting, band from the smallest to "
        f"the largest seed. Level line: {table.reference}'s final value."
    )
    return page.CurveBlock(words, f"validation {metric}", views, y_log=bool(log), target=target)


def _series(curve: Curve, task: str, column: str) -> page.Series:
    mean = curve.mean.sort_values(column)
    points = list(zip(mean[column].astype(float), mean["mean"].astype(float), strict=True))
    stops = []
    for stop in curve.stops:
        at, value = (stop.step, stop.seconds)[column == "seconds"], stop.values["value"]
        if len(value) and math.isfinite(at):
            stops.append((float(at), float(value.iloc[-1])))
    optim = curve.optim.partition(" ")[0]
    low, high = (mean[end].astype(float).tolist() for end in ("low", "high"))
    label = f"{curve.optim}: {curve.setting}"
    return page.Series(optim, label, points, low, high, task, curve.optim != optim, stops)


def _heatmaps(table: Table) -> page.HeatmapBlock | None:
    swept = [contender for contender in table.comparison.contenders if len(contender.settings) > 1]
    if not swept:
        return None
    grids = [setting_grid(contender) for contender in swept]
    panels = [
        page.Heatmap(
            contender.label,
            grid.learning_rates,
            grid.weight_decays,
            [[_finite(value) for value in row] for row in grid.values],
            grid.chosen,
            [(int(row), int(column)) for row, column in zip(*grid.diverged.nonzero(), strict=True)],
            contender.label.partition(" ")[0],
            table.comparison.task,
        )
        for contender, grid in zip(swept, grids, strict=True)
    ]
    goal: Literal["max", "min"] = "min" if table.comparison.goal == "min" else "max"
    finite = [value for panel in panels for row in panel.values for value in row if value is not None]
    low, high = colour_limits(grids, goal)
    clipped = finite and (high < max(finite) or low > min(finite))
    limits = (low, high) if clipped else None  # None: from the smallest to the largest value
    digits = 3 if not finite or max(abs(value) for value in finite) < 10 else 1
    words = f"Final validation {table.comparison.metric} of each setting; the chosen one is framed."
    return page.HeatmapBlock(words, "peak learning rate", "weight decay", panels, goal, digits, limits)


def _trials(table: Table, curves: dict[str, pd.DataFrame]) -> page.CurveBlock:
    series = []
    for label, curve in curves.items():
        points = list(zip(curve["k"].astype(float), curve["expected"].astype(float), strict=True))
        series.append(page.Series(label.partition(" ")[0], label, points, task=table.comparison.task))
    words = "Expected best of k trials drawn from those that were run: what an amount of tuning buys."
    return page.CurveBlock(words, f"validation {table.comparison.metric}", [page.View("trials", series)])


def _batch_sizes(group: list[Table]) -> page.CurveBlock:
    labels = sorted({row.optim for table in group for row in table.rows})
    series = []
    for label in labels:
        measured = [
            (t.comparison.batch_size, row.compared(t.split)) for t in group for row in t.rows if row.optim == label
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
    y_label = f"{first.split} {first.comparison.metric}"
    return page.CurveBlock(words, y_label, [page.View("batch size", series, x_log=True)])


def _grid_block(grid: Grid, optimizers: set[str]) -> page.TableBlock:
    """Turn texts into a table: a column all of whose cells begin with a number, or are a dash, is one of numbers."""
    numbers = {name: [_leading(text) for text in grid.cells[name]] for name in grid.cells}
    kinds = {name: _numeric(list(grid.cells[name]), values) for name, values in numbers.items()}
    columns = [page.Column(str(name), "number" if kinds[name] else "text") for name in grid.cells]
    rows = []
    for place, texts in enumerate(grid.cells.itertuples(index=False)):
        record = dict(zip(grid.cells.columns, texts, strict=True))
        made = [page.Cell(str(text), numbers[name][place] if kinds[name] else None) for name, text in record.items()]
        optim = str(record.get("optimizer", "")).partition(" ")[0].lower()
        rows.append(
            page.Row(
                made,
                optim=optim if optim in optimizers else "",
                task=str(record.get("our task", record.get("task", ""))).strip("-"),
            )
        )
    return page.TableBlock(grid.caption, columns, rows, grid.notes)


def _numeric(texts: list[str], values: list[float | None]) -> bool:
    rest = [text for text, value in zip(texts, values, strict=True) if value is None]
    return len(rest) < len(texts) and all(text in ("-", "not run", "") for text in rest)


def _leading(text: str) -> float | None:
    try:
        return float(str(text).split(" ")[0].replace(",", ""))
    except (ValueError, IndexError):
        return None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
