"""The paper's figures and ours in one table, with the two scales named in the heading.

reports/paper/comparisons.yaml says which figure is compared with which; reports/paper/*.csv are the paper's numbers.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reports.tables.comparison import Row, Table

PAPER = Path(__file__).resolve().parent.parent / "paper"
PAPER_REFERENCE = "AdamW"  # the paper's reference


@dataclass(frozen=True)
class Pair:
    """One figure of the paper and ours: nan, and no row, if there is none. `*_gain` is over AdamW's figure."""

    model: str
    optimizer: str
    paper: float
    paper_gain: float
    task: str
    ours: float
    row: Row | None


@dataclass(frozen=True)
class PaperComparison:
    """One table of the paper with our figures."""

    name: str
    heading: str
    unit: str
    ours: str  # the unit of ours, next to the paper's
    ours_times: float
    pairs: list[Pair]
    tables: list[Table]  # ours, one a task


def read_rows(name: str) -> list[dict[str, str]]:
    """Read one of the paper's tables; its first lines, with #, describe it."""
    lines = (PAPER / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def paper_comparisons(tables: Sequence[Table]) -> list[PaperComparison]:
    """Combine each listed table of the paper with our figures, in the list's order."""
    listed = yaml.safe_load((PAPER / "comparisons.yaml").read_text(encoding="utf-8"))
    return [_paper_comparison(name, entry, tables) for name, entry in listed.items()]


def published_figures() -> dict[str, Any]:
    """Return the paper's figures by task, with the name of an augmentation that is not its setting's own behind it.

    Each entry has the metric as runs call it, the source, and the figure of each optimizer.
    """
    published: dict[str, Any] = {}
    for entry in yaml.safe_load((PAPER / "comparisons.yaml").read_text(encoding="utf-8")).values():
        if "metric" not in entry:
            continue
        described = {"metric": entry["metric"], "source": f"Lion paper, {entry['heading'].partition(':')[0]}"}
        for (model, optimizer), figure in _figures(entry).items():
            tasks, optim = entry["models"].get(model), entry["optimizers"].get(optimizer)
            if tasks and optim:
                task = "_".join([tasks if isinstance(tasks, str) else tasks[0], *filter(None, [entry.get("augment")])])
                figures = published.setdefault(task, described | {"figures": {}})["figures"]
                figures[optim] = round(figure / entry["ours_times"], 6)
    return published


def main_tables(tables: Sequence[Table], part: str = "") -> list[Table]:
    """Return the largest comparison of each task, sorted by task; `part` selects other parts, such as FIELD."""
    of_each = (main_table(tables, task, part) for task in sorted({table.comparison.task for table in tables}))
    return [table for table in of_each if table is not None]


def main_table(tables: Sequence[Table], task: str, part: str = "") -> Table | None:
    """Return a task's main comparison: that of most optimizers and, among these, of most runs."""
    of_task = [table for table in tables if table.comparison.task == task and table.part == part]
    return max(of_task, key=lambda t: (len(t.rows), sum(row.runs for row in t.rows)), default=None)


def _figures(entry: dict[str, Any]) -> dict[tuple[str, str], float]:
    """The paper's figure of each model and optimizer, in the file's order.

    A row of the file is one figure, or holds those of several optimizers in the columns that `columns` names.
    Logarithms of perplexities become perplexities.
    """
    rows = [r for r in read_rows(entry["file"]) if all(r[k] == v for k, v in entry.get("keep", {}).items())]
    model = entry.get("model", "model")
    if "columns" in entry:
        texts = {(r[model], name): r[column] for r in rows for name, column in entry["columns"].items()}
    else:
        texts = {(r[model], r["optimizer"]): r[entry["figure"]] for r in rows}
    figures = {key: float(text) for key, text in texts.items() if text}
    return {key: math.exp(value) for key, value in figures.items()} if entry.get("logarithms") else figures


def _of_batch(tables: Sequence[Table], task: str, batch_size: str) -> Table | None:
    of_batch = [table for table in tables if str(table.comparison.batch_size) == batch_size]
    return main_table(of_batch, task)


def _paper_comparison(name: str, entry: dict[str, Any], tables: Sequence[Table]) -> PaperComparison:
    figures = _figures(entry)
    tasks = {model: [tasks] if isinstance(tasks, str) else tasks for model, tasks in entry["models"].items()}
    ours: dict[str, Table] = {}
    for model, names in tasks.items():
        for task in names:
            table = _of_batch(tables, task, model) if entry.get("model") == "batch_size" else main_table(tables, task)
            if table is not None:
                ours.setdefault(model, table)
    pairs = []
    for (model, optimizer), figure in figures.items():
        table, label = ours.get(model), entry["optimizers"].get(optimizer, "")
        task = table.comparison.task if table else tasks.get(model, [""])[0]
        row = next((row for row in table.rows if row.optim == label), None) if table else None
        value = entry["ours_times"] * row.compared(table.split)[0] if row and table else math.nan
        gain = figure - figures.get((model, PAPER_REFERENCE), math.nan)
        pairs.append(Pair(model, optimizer, figure, gain, task, value, row))
    return PaperComparison(
        name=name,
        heading=entry["heading"],
        unit=entry["unit"],
        ours=entry.get("ours", "small models on small data, named in their own tables"),
        ours_times=entry["ours_times"],
        pairs=pairs,
        tables=list({id(table): table for table in ours.values()}.values()),
    )
