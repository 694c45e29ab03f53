"""Print the comparison tables: for the terminal (rich), as Markdown and as CSV.

The same records give the same bytes: nothing here depends on the time, the machine or the order of reading.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from reports.selection import SETTING
from reports.statistics import NO_DIFFERENCE
from reports.table import Row, Table, to_frame

NONE = "-"
DIRECTION = {"max": "higher is better", "min": "lower is better"}


def heading(table: Table) -> str:
    """Say in a line what the runs of a table have in common: scale, model, data, steps, metric."""
    c = table.comparison
    model = f"model {c.model or 'unknown'}" + (f" ({c.model_args})" if c.model_args else "")
    model += ", unknown size" if c.num_parameters is None else f", {short_count(c.num_parameters)} parameters"
    fingerprint = re.sub(r"\b([0-9a-f]{6})[0-9a-f]+\b", r"\1", c.data_fingerprint or "")
    data = f"data {c.data or 'unknown'}" + (f" ({fingerprint})" if fingerprint else "")
    data += f", augment {c.augment}" if c.augment else ""
    steps = "unknown steps" if c.steps is None else f"{c.steps:,} steps"
    steps += "" if c.batch_size is None else f" of {c.batch_size:,}"
    metric = f"metric {c.metric or 'unknown'}, {DIRECTION.get(c.goal or '', 'direction unknown')}"
    return " · ".join([f"scale {c.scale or 'unknown'}", model, data, steps, metric])


def short_count(number: int) -> str:
    """Write a count with three figures: 410k, 86.6M."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def short_number(value: float) -> str:
    """Write a number with three figures: 0.0003, 1.5e-05, 1234; a dash where there is none."""
    return NONE if math.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def cells(table: Table) -> pd.DataFrame:
    """Return the table as the texts that a reader sees, markers included."""
    val = _places(row.val_mean for row in table.rows)
    test = _places(row.test_mean for row in table.rows)
    compared = test if table.split == "test" else val
    return pd.DataFrame(
        {
            "optimizer": row.optim + (" untuned" if row.untuned else ""),
            "lr": short_number(row.lr) + _mark(row.lr_on_border, "†"),
            "weight decay": short_number(row.weight_decay) + _mark(row.weight_decay_on_border, "†"),
            "settings tried": f"{row.trials}" + _mark(row.trials < row.most_trials, f"<{row.most_trials}"),
            "runs": _runs(row),
            "seeds": f"{row.seeds}" + _mark(row.repeated, "‡") + _mark(row.diverged_there > 0, "✗"),
            "val": _mean(row.val_mean, row.val_sd, val),
            "test": _mean(row.test_mean, row.test_sd, test),
            f"{table.split} minus {table.reference}": _difference(row, compared),
            "steps/s": short_number(row.steps_per_second),
            "optimizer step, ms": short_number(row.optimizer_step_ms),
            "optimizer state, MB": short_number(row.optimizer_state_bytes / 1e6),
        }
        for row in table.rows
    )


def legend(table: Table) -> list[str]:
    """Explain the columns, and each marker that occurs in the table."""
    rows, best = table.rows, {"max": "highest", "min": "lowest"}.get(table.comparison.goal or "", "best")
    lines = [
        f"lr and weight decay: the setting with the {best} mean val over seeds, whatever its test value. "
        "val, test: mean ± standard deviation over the seeds at that setting.",
    ]
    if any(not math.isnan(row.difference) for row in rows):
        lines.append(
            f"{table.split} minus {table.reference}: mean over common seeds [95% interval, paired t test; "
            f"{NONE} below two common seeds], not corrected for the number of comparisons."
        )
    elif not any(row.is_reference for row in rows):
        lines.append(f"No row is called {table.reference!r}, so no differences are shown.")
    lines.append(
        "steps/s, optimizer step, optimizer state: medians over the runs that completed or diverged, which may "
        "have shared a machine. 1 MB = 10⁶ bytes."
    )
    variants = sorted(f"{row.optim}: {row.variant}" for row in rows if row.variant not in ("", row.optim))
    markers: list[tuple[str, str, Callable[[Row], bool]]] = [
        ("†", "the smallest or largest value tried; a better one may lie beyond", _on_border),
        ("n<k", "n settings tried, where a rival got k", lambda r: r.trials < r.most_trials),
        ("untuned", "runs that used no file of tuned hyperparameters", lambda r: r.untuned),
        ("✗", "runs at this setting diverged; the mean is over the others", lambda r: r.diverged_there > 0),
        ("‡", "a seed was run more than once with other options; averaged by seed", lambda r: r.repeated),
        (NO_DIFFERENCE, "the interval contains zero", lambda r: r.verdict == NO_DIFFERENCE),
    ]
    if variants:
        lines.append("Variants: " + "; ".join(variants) + ".")
    return lines + [f"{mark}: {words}." for mark, words, occurs in markers if any(map(occurs, rows))]


def stopped(table: Table) -> list[str]:
    """Name each setting at which runs did not complete, with how many, when and why."""
    lines = []
    for contender in table.comparison.contenders:
        others = contender.runs[contender.runs["status"] != "completed"]
        for (_, _, status), runs in others.groupby([*SETTING, "status"], dropna=False):
            steps = runs["diverged_step"].dropna()
            when = "" if steps.empty else f" at step {steps.min()}"
            when += f" to {steps.max()}" if steps.nunique() > 1 else ""
            causes = sorted({" ".join(cause.split())[:100] for cause in runs["cause"].dropna()})
            why = f" ({'; '.join(causes[:3])})" if causes else ""
            setting = runs[SETTING].iloc[0].map(short_number)
            where = f"{contender.label}, lr {setting['lr']}, weight decay {setting['weight_decay']}"
            lines.append(f"{where}: {len(runs)} {status}{when}{why}")
    return lines


def to_markdown(tables: Sequence[Table]) -> str:
    """Return the tables as one Markdown page, with the runs behind each row."""
    parts = ["# Comparison of optimizers"]
    for table in tables:
        parts += [f"## {table.comparison.task}", _plain(heading(table))]
        shown = cells(table).map(_plain)
        parts.append(tabulate(shown, headers="keys", showindex=False, tablefmt="pipe", disable_numparse=True))
        parts.append(_list(legend(table)))
        if lines := stopped(table):
            parts += ["Runs that did not complete:", _list(lines)]
        if behind := [f"{row.optim}: {row.run_ids}" for row in table.rows if row.run_ids]:
            parts += ["Runs behind each row, by run id:", _list(behind)]
    return "\n\n".join(parts) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """Return all rows as CSV: every number in full, the markers as columns of their own."""
    return to_frame(tables).to_csv(index=False, lineterminator="\n")


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Print the tables to a terminal; long lines of the legend are folded to its width."""
    for table in tables:
        shown = cells(table)
        grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in shown.columns:
            side: Literal["left", "right"] = "left" if name in ("optimizer", "runs") else "right"
            grid.add_column(Text(name.replace(" ", "\n", 1)), justify=side, overflow="fold")
        for values in shown.itertuples(index=False):
            grid.add_row(*(Text(_stacked(str(value))) for value in values))
        console.print(Text(table.comparison.task, style="bold"))
        console.print(Text(heading(table)))
        console.print(grid)
        for line in legend(table):
            console.print(Text(line, style="dim"))
        console.print()


def _on_border(row: Row) -> bool:
    return row.lr_on_border or row.weight_decay_on_border


def _places(means: Iterable[float]) -> int:
    """Choose the decimals that show four figures of the largest value."""
    largest = max((abs(mean) for mean in means if math.isfinite(mean)), default=0.0)
    return min(max(3 - math.floor(math.log10(largest)), 0), 8) if largest > 0 else 4


def _mean(mean: float, sd: float, places: int) -> str:
    if math.isnan(mean):
        return NONE
    return _fixed(mean, places) + ("" if math.isnan(sd) else f" ± {_fixed(sd, places)}")


def _fixed(value: float, places: int, sign: str = "") -> str:
    return f"{value:{sign}.{places}f}" if abs(value) < 1e7 else f"{value:{sign}.4g}"


def _difference(row: Row, places: int) -> str:
    if row.is_reference:
        return "reference"
    if math.isnan(row.difference):
        return NONE
    value = _fixed(row.difference, places, "+")
    if not row.verdict:
        return f"{value} [{NONE}]"
    verdict = row.verdict if row.verdict == NO_DIFFERENCE else f"{value} {row.verdict}"
    return f"{verdict} [{_fixed(row.difference_low, places, '+')}, {_fixed(row.difference_high, places, '+')}]"


def _runs(row: Row) -> str:
    counts = {"diverged": row.diverged, "failed": row.failed, "interrupted": row.interrupted}
    others = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{row.runs} ({others})" if others else f"{row.runs}"


def _mark(occurs: bool, mark: str) -> str:
    return mark if occurs else ""


def _stacked(text: str) -> str:
    """Put intervals and counts on lines of their own, so that the table is no wider than it must be."""
    return re.sub(r" (?=[\[(]\S)|(?<=[a-z],) (?=\d)", "\n", text)


def _plain(text: str) -> str:
    """Keep a text from being read as Markdown."""
    return re.sub(r"([|*_`\\]|<(?=[A-Za-z/!]))", r"\\\1", text)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)
