"""Figures inside texts that people write: blocks in README.md and docs/guide.md that follow from the records.

A block stands between `<!-- NAME: written by make reports -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from reports.protocol import REFERENCE, SUBJECT
from reports.results import Results
from reports.statistics.intervals import NO_DIFFERENCE
from reports.tables.comparison import Row, Table

WHERE = {"README.md": ["answer"], "docs/guide.md": ["answer", "tasks"]}
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def blocks(results: Results) -> dict[str, str]:
    """Return the text of each block."""
    return {"answer": answer(results.main), "tasks": task_table(results.main, results.about.get("names", {}))}


def fill(root: Path, results: Results) -> dict[Path, str]:
    """Return the documents under a checkout's root with their blocks as the records give them.

    Raises:
        ValueError: a document lacks the marks of a block.
    """
    texts = blocks(results)
    filled = {}
    for name, wanted in WHERE.items():
        content = (root / name).read_text(encoding="utf-8")
        for block in wanted:
            begin, end = f"<!-- {block}: written by make reports -->", f"<!-- end of {block} -->"
            before, marker, rest = content.partition(begin)
            _, closed, after = rest.partition(end)
            if not marker or not closed:
                raise ValueError(f"{name} has no block {block!r}: it stands between {begin} and {end}")
            content = f"{before}{begin}\n{texts[block]}\n{end}{after}"
        filled[root / name] = content
    return filled


def answer(tables: Sequence[Table]) -> str:
    """Say in a few sentences on how many tasks the subject is better, worse, or shows no difference."""
    compared = [(row, base) for table in tables for row, base in [_pair(table)] if row and base and row.verdict]
    if not compared:
        return f"{SUBJECT.title()} and {REFERENCE} have not been compared by the protocol yet."
    count = {word: sum(row.verdict == word for row, _ in compared) for word in ("better", "worse", NO_DIFFERENCE)}
    unsure = sum(row.open or base.open for row, base in compared)
    words = (
        f"On the {_number(len(compared))} small models measured so far, {SUBJECT.title()} is better than AdamW on "
        f"{_number(count['better'])}, worse on {_number(count['worse'])}, and on {_number(count[NO_DIFFERENCE])} no "
        "difference is shown."
    )
    if unsure:
        words += (
            f" On {_number(unsure)} of them a chosen setting is not enclosed by what was tried (an open circle), and a "
            "wider grid may change what is shown."
        )
    return words


def task_table(tables: Sequence[Table], names: Mapping[str, str]) -> str:
    """Return a row a task: both figures and their difference with its interval, in the digits that it warrants."""
    rows = []
    for table in tables:
        row, base = _pair(table)
        if row is None or base is None or not row.seeds or not base.seeds:
            continue
        share = table.comparison.goal == "max"
        times = 100 if share else 1
        ends = (row.difference_low, row.difference_high)
        digits = _digits(times * (ends[1] - ends[0]) / 2)
        figures = [f"{times * r.compared(table.split)[0]:.{digits}f}" for r in (base, row)]
        difference = f"{times * row.difference:+.{digits}f}"
        if not math.isnan(ends[0]):
            difference += f" [{times * ends[0]:+.{digits}f}, {times * ends[1]:+.{digits}f}]"
        task = names.get(table.comparison.task, table.comparison.task)
        verdict = (row.verdict or "no verdict") + (" †" if row.open or base.open else "")
        rows.append([task, *figures, difference, row.common_seeds, verdict])
    headings = ["task", "AdamW", "Lion", "difference [95% interval]", "seeds", f"{SUBJECT.title()} is"]
    grid = tabulate(rows, headings, tablefmt="pipe", disable_numparse=True)
    return re.sub(r" {2,}", " ", re.sub(r"-{4,}", "---", grid))


def _pair(table: Table) -> tuple[Row | None, Row | None]:
    row = next((row for row in table.rows if row.optim == SUBJECT), None)
    return row, next((row for row in table.rows if row.is_reference), None)


def _digits(half_width: float) -> int:
    """How many decimals an interval of this half-width warrants: two digits of it."""
    if math.isnan(half_width) or half_width <= 0:
        return 2
    return max(0, 1 - math.floor(math.log10(half_width)))


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)
