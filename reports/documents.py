"""Figures inside texts that people write: blocks in README.md and docs/guide.md that follow from the records.

A block stands between `<!-- NAME: written by make reports -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from reports.protocol import SUBJECT
from reports.results import Results
from reports.tables.answer import answer, pair
from reports.tables.comparison import Table
from reports.tables.names import metric_name, task_name
from reports.tables.units import difference, unit_of

WHERE = {"README.md": ["answer"], "docs/guide.md": ["answer", "tasks"]}


def blocks(results: Results) -> dict[str, str]:
    """Return the text of each block."""
    return {"answer": answer(results.main), "tasks": task_table(results.main)}


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


def task_table(tables: Sequence[Table]) -> str:
    """Return a row a task: both figures and their difference with its interval, in the digits that it warrants."""
    rows = []
    for table in tables:
        both = pair(table)
        if both is None or not both[0].seeds or not both[1].seeds:
            continue
        row, base = both
        figures = [unit_of(table).figure(*each.compared(table.split)) for each in (base, row)]
        verdict = (row.verdict or "no verdict") + (" †" if row.open or base.open else "")
        task = f"{task_name(table.comparison)}, {metric_name(table.comparison)}"
        rows.append([task, *figures, difference(row, table), row.common_seeds, verdict])
    headings = ["task", "AdamW", "Lion", "difference [95% interval]", "seeds", f"{SUBJECT.title()} is"]
    grid = tabulate(rows, headings, tablefmt="pipe", disable_numparse=True)
    return re.sub(r" {2,}", " ", re.sub(r"-{4,}", "---", grid))
