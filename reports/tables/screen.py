"""A summary for one terminal screen: each optimizer on each task, and what is missing for a verdict."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from reports.number_format import NONE, laid_out, short_number
from reports.protocol import FRESH_SEEDS, NEEDED, SUBJECT, TRIALS
from reports.tables.comparison import Row, Table
from reports.tables.names import metric_name
from reports.tables.render import legend, titles
from reports.tables.units import difference, unit_of

Line = dict[str, str]


def screen(tables: Sequence[Table], width: int, height: int) -> list[str]:
    """Return the lines of one screen; if not every row fits, the reference and the subject are kept and a line says so.

    A terminal too narrow for the table gets a block for each row, and is then scrolled.
    """
    rows = [(row, _line(row, table)) for table in tables for row in table.rows]
    shown = rows
    room = max(height - 7, 3)  # besides the heading, the notes and the prompt
    if len(rows) > room:
        first = [place for place, (row, _) in enumerate(rows) if row.is_reference or row.optim == SUBJECT]
        others = [place for place in range(len(rows)) if place not in set(first)]
        shown = [rows[place] for place in sorted([*first, *others][:room])]
    lines = [line for _, line in shown]
    if not any(row.timed_step for row, _ in rows):
        lines = [{name: text for name, text in line.items() if name != "steps/s"} for line in lines]
    before = ["", *(line["task"] for line in lines)]
    blanked = [
        line | {"task": "" if line["task"] == above else line["task"]}
        for line, above in zip(lines, before, strict=False)
    ]
    text = laid_out(blanked, 10**6)
    if max(map(len, text), default=0) > width:
        text = laid_out([{"": f"{line.pop('task')} {line.pop('optimizer')}"} | line for line in lines], 0)
    notes = []
    if len(shown) < len(rows):
        notes.append(f"more rows in the files: {len(rows) - len(shown)}")
    if any(row.untuned for row, _ in rows):
        notes.append(f"untuned: no verdict below {NEEDED}.")
    if any(row.open for row, _ in rows):
        notes.append("†: the chosen setting is not enclosed by what was tried.")
    notes += [line for table in tables for line in legend(table) if line.startswith("No row is called")]
    return [*text, *(part for note in dict.fromkeys(notes) for part in textwrap.wrap(note, width))]


def progress(tables: Sequence[Table]) -> list[str]:
    """Return for each optimizer and task what has run, and what the protocol requires before a verdict."""
    lines = []
    for table, title in zip(tables, titles(tables), strict=True):
        for row in table.rows:
            trials = f"{row.trials if row.fresh or row.trials > 1 else 0} trials ({TRIALS} needed)"
            fresh = f"{row.seeds if row.fresh else 0} fresh seeds ({FRESH_SEEDS} needed)"
            left = {"not finished": row.interrupted, "failed": row.failed, "diverged": row.diverged}
            others = [f"{count} {word}" for word, count in left.items() if count]
            state = "missing: " if row.untuned else "enough: "
            lines.append(f"{title}, {row.optim}: {state}{', '.join([trials, fresh, *others])}")
    return lines


def _line(row: Row, table: Table) -> Line:
    speed = NONE if math.isnan(row.steps_per_second) else f"{row.steps_per_second:.1f}"
    return {
        "task": f"{table.comparison.task}, {table.split} {metric_name(table.comparison)}",
        "optimizer": row.optim,
        "lr": short_number(row.lr) + "†" * row.lr_on_border,
        "decay": short_number(row.weight_decay) + "†" * row.weight_decay_on_border,
        "figure": unit_of(table).figure(*row.compared(table.split)),
        f"minus {table.reference}": "reference" if row.is_reference else difference(row, table),
        "verdict": row.verdict or ("untuned" if row.untuned else ""),
        "steps/s": speed,
        "state, MB": short_number(row.optimizer_state_bytes / 1e6),
    }
