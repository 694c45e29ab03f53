"""Tables on the page: comparisons, and overviews as grids of texts."""

from __future__ import annotations

import math

from reports.page import content as page
from reports.tables.comparison import Row, Table
from reports.tables.overviews import Grid
from reports.tables.render import cells, legend, stopped
from reports.tables.units import difference

FIRST = ("optimizer", "test", "minus", "in the time of", "lr", "weight decay")  # the columns that are shown by default
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
    "in the time of": lambda row, split: row.in_time_mean,
    "optimizer step, ms": lambda row, split: row.optimizer_step_ms,
    "optimizer state, MB": lambda row, split: row.optimizer_state_bytes,
}
WITHIN = ("minus", "steps to", "steps/s over", "in the time of")  # parts of a column's name


def table_block(table: Table, caption: str) -> page.TableBlock:
    """Return a comparison's table: the main columns first, each cell with its runs."""
    shown = cells(table)
    getters = [next((get for start, get in NUMBERS.items() if _is(str(name), start)), None) for name in shown.columns]
    first = [*FIRST, "val"] if table.split == "val" else FIRST
    columns = [
        page.Column(
            str(name),
            "text" if get is None else "number",
            extra=not any(_is(str(name), start) for start in first) or (name == "test" and table.split == "val"),
        )
        for name, get in zip(shown, getters, strict=True)
    ]
    rows = []
    for row, texts in zip(table.rows, shown.itertuples(index=False), strict=True):
        made = []
        for column, get, text in zip(columns, getters, texts, strict=True):
            sort = None if get is None else _finite(get(row, table.split))
            compared = "minus" in column.name and not row.is_reference
            runs = row.run_ids.split() if compared or column.name in ("val", "test", "seeds") else []
            verdict, words = (row.verdict, difference(row, table)) if compared else ("", str(text))
            made.append(page.Cell(words, sort, runs=runs, verdict=verdict))
        rows.append(page.Row(made, optim=_optim(row), task=table.comparison.task))
    return page.TableBlock(caption, columns, rows, [*legend(table), *stopped(table)])


def _is(name: str, start: str) -> bool:
    return name == start or (start in WITHIN and start in name)


def _optim(row: Row) -> str:
    return row.optim.partition(" ")[0]


def grid_block(grid: Grid, optimizers: set[str]) -> page.TableBlock:
    """Turn texts into a table; a column is a number column if each cell begins with a number or is a dash."""
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
