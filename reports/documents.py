"""Update the blocks of README.md and docs/guide.md that are generated from the records.

A block is between `<!-- NAME: written by make reports -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from reports.evidence import counts, ledger
from reports.evidence.counts import Claim
from reports.protocol import SUBJECT
from reports.results import Results
from reports.statistics.intervals import NO_DIFFERENCE
from reports.tables.answer import answer, pair
from reports.tables.comparison import Row, Table
from reports.tables.names import metric_name, task_name
from reports.tables.render import IN_TIME, cells
from reports.tables.units import difference, unit_of

WHERE = {"README.md": ["answer"], "docs/guide.md": ["answer", "situations", "tasks", "rivals", "field"]}


def blocks(results: Results) -> dict[str, str]:
    """Return the text of each block."""
    entries = results.about.get("situations", [])
    claims = counts.evaluate(ledger.read()) if entries else []
    return {
        "answer": answer(results.main),
        "situations": situation_table(results.main, entries, claims),
        "tasks": task_table(results.main),
        "rivals": rival_table(results.main),
        "field": field_table(results.field),
    }


def fill(root: Path, results: Results) -> dict[Path, str]:
    """Return the documents under a checkout's root with their blocks generated from the records.

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
                raise ValueError(f"{name} has no block {block!r}: it is between {begin} and {end}")
            content = f"{before}{begin}\n{texts[block]}\n{end}{after}"
        filled[root / name] = content
    return filled


def task_table(tables: Sequence[Table]) -> str:
    """Return a row a task: both figures and their difference with its interval, rounded by its interval."""
    rows = []
    for table in tables:
        both = pair(table)
        if both is None or not both[0].seeds or not both[1].seeds:
            continue
        row, base = both
        figures = [unit_of(table).figure(*each.compared(table.split)) for each in (base, row)]
        rows.append([_task(table), *figures, difference(row, table), row.common_seeds, _verdict(row, base)])
    return _pipe(rows, ["task", "AdamW", "Lion", "difference [95% interval]", "seeds", f"{SUBJECT.title()} is"])


def rival_table(tables: Sequence[Table]) -> str:
    """Return a row a task and a column for each of the paper's other optimizers: its difference to the reference.

    The verdict stands beside it where a difference is shown.
    """
    of_task = [(table, {row.optim: row for row in table.rows if row.family == "rivals"}) for table in tables]
    names = sorted({optim for _, rivals in of_task for optim in rivals})
    rows = []
    for table, rivals in of_task:
        if not rivals:
            continue
        base = next(row for row in table.rows if row.is_reference)
        verdicts = {optim: _verdict(row, base).removeprefix(NO_DIFFERENCE) for optim, row in rivals.items()}
        found = {optim: f"{difference(row, table)} {verdicts[optim]}".rstrip() for optim, row in rivals.items()}
        seeds = sorted({row.common_seeds for row in rivals.values()})
        rows.append([_task(table), *(found.get(name, "not measured") for name in names), "-".join(map(str, seeds))])
    return _pipe(rows, ["task", *names, "seeds"]) if rows else ""


def field_table(tables: Sequence[Table]) -> str:
    """Return a row for each optimizer of a field table on each task: quality and what it costs."""
    parts = []
    for table in tables:
        shown = cells(table).assign(task=[_task(table), *[""] * (len(table.rows) - 1)])
        kept = ["task", "optimizer", table.split, f"{table.split} minus {table.reference}", "seeds"]
        costs = [IN_TIME.format(table.reference), f"steps/s over {table.reference}'s", "optimizer state, MB"]
        parts.append(shown.reindex(columns=kept + costs, fill_value="not measured"))
    rows = pd.concat(parts).fillna("") if parts else pd.DataFrame()  # a task without a test split has other columns
    return _pipe(rows.to_numpy().tolist(), rows.columns.tolist())


def situation_table(tables: Sequence[Table], entries: Sequence[Mapping[str, Any]], claims: Sequence[Claim]) -> str:
    """Return a row a situation: what to do in it, what was measured here, and what others found.

    Args:
        tables: the main table of each task.
        entries: each with `if` and `then`, and its evidence: `tasks`, further measurements `here`, and ids of `claims`
            of the evidence ledger.
        claims: the ledger's.

    Raises:
        ValueError: an entry names an unknown claim.
    """
    of_task = {table.comparison.task: table for table in tables}
    of_id = {claim.id: claim for claim in claims}
    rows = []
    for entry in entries:
        if unknown := [name for name in entry.get("claims", []) if name not in of_id]:
            raise ValueError(f"situation {entry['if']!r}: claim {unknown[0]} is unknown; known: {', '.join(of_id)}")
        here = [entry.get("here", ""), *(_here(of_task[task]) for task in entry.get("tasks", []) if task in of_task)]
        others = [f"{claim.claim} {_counted(claim)}" for claim in map(of_id.__getitem__, entry.get("claims", []))]
        rows.append([entry["if"], entry["then"], "; ".join(filter(None, here)) or "not measured", " ".join(others)])
    headings = [
        "if you are ...",
        "then",
        "measured here: Lion minus AdamW",
        "published runs of others than the paper",
    ]
    return _pipe(rows, headings)


def _here(table: Table) -> str:
    both = pair(table)
    return f"{_task(table)} {difference(both[0], table)}, {_verdict(*both)}" if both and both[0].seeds else ""


def _counted(claim: Claim) -> str:
    if claim.counts is None:
        return "Cited, not counted."
    tally = claim.counts
    caveats = f" ({tally.caveats})" if tally.caveats else ""
    return f"{tally.supports} of {tally.total} {tally.unit} for it, {tally.contradicts} against{caveats}."


def _task(table: Table) -> str:
    return f"{task_name(table.comparison)}, {metric_name(table.comparison)}"


def _verdict(row: Row, base: Row) -> str:
    return (row.verdict or "no verdict") + (" †" if row.open or base.open else "")


def _pipe(rows: Sequence[Sequence[Any]], headings: Sequence[str]) -> str:
    grid = tabulate(rows, headings, tablefmt="pipe", disable_numparse=True)
    return re.sub(r" {2,}", " ", re.sub(r"-{4,}", "---", grid))
