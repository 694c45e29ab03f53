"""Figures inside texts that people write: blocks in README.md and docs/guide.md that follow from the records.

A block stands between `<!-- NAME: written by make reports -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from reports.evidence import counts, ledger
from reports.evidence.counts import Claim
from reports.protocol import REFERENCE, SUBJECT
from reports.results import Results
from reports.statistics.intervals import NO_DIFFERENCE
from reports.tables.comparison import Row, Table

WHERE = {"README.md": ["answer"], "docs/guide.md": ["answer", "situations", "tasks"]}
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def blocks(results: Results) -> dict[str, str]:
    """Return the text of each block."""
    names, entries = results.about.get("names", {}), results.about.get("situations", [])
    claims = counts.evaluate(ledger.read()) if entries else []
    return {
        "answer": answer(results.main),
        "situations": situation_table(results.main, entries, claims, names),
        "tasks": task_table(results.main, names),
    }


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
        figures = [f"{_times(table) * r.compared(table.split)[0]:.{_digits_of(table, row)}f}" for r in (base, row)]
        task = names.get(table.comparison.task, table.comparison.task)
        rows.append([task, *figures, _difference(table, row), row.common_seeds, _verdict(row, base)])
    return _pipe(rows, ["task", "AdamW", "Lion", "difference [95% interval]", "seeds", f"{SUBJECT.title()} is"])


def situation_table(
    tables: Sequence[Table], entries: Sequence[Mapping[str, Any]], claims: Sequence[Claim], names: Mapping[str, str]
) -> str:
    """Return a row a situation: what to do in it, what was measured here, and what others found.

    Args:
        tables: the main table of each task.
        entries: each with `if` and `then`, and what it rests on: `tasks`, what was measured `here` beside them, and
            ids of `claims` of the evidence ledger.
        claims: the ledger's.
        names: what people call the tasks.

    Raises:
        ValueError: an entry names an unknown claim.
    """
    of_task = {table.comparison.task: table for table in tables}
    of_id = {claim.id: claim for claim in claims}
    rows = []
    for entry in entries:
        if unknown := [name for name in entry.get("claims", []) if name not in of_id]:
            raise ValueError(f"situation {entry['if']!r}: claim {unknown[0]} is unknown; known: {', '.join(of_id)}")
        here = [entry.get("here", "")]
        here += [_here(of_task[task], names) for task in entry.get("tasks", []) if task in of_task]
        found = [f"{claim.claim} {_counted(claim)}" for claim in map(of_id.__getitem__, entry.get("claims", []))]
        rows.append([entry["if"], entry["then"], "; ".join(filter(None, here)) or "not measured", " ".join(found)])
    return _pipe(
        rows,
        ["if you are ...", "then", "measured here: Lion minus AdamW", "others, by the ledger (without the Lion paper)"],
    )


def _here(table: Table, names: Mapping[str, str]) -> str:
    row, base = _pair(table)
    if row is None or base is None or not row.seeds:
        return ""
    task = names.get(table.comparison.task, table.comparison.task)
    return f"{task} {_difference(table, row)}, {_verdict(row, base)}"


def _counted(claim: Claim) -> str:
    if claim.counts is None:
        return "Cited, not counted."
    tally = claim.counts
    return f"{tally.supports} of {tally.total} {tally.unit} for it, {tally.contradicts} against."


def _times(table: Table) -> int:
    return 100 if table.comparison.goal == "max" else 1


def _digits_of(table: Table, row: Row) -> int:
    return _digits(_times(table) * (row.difference_high - row.difference_low) / 2)


def _difference(table: Table, row: Row) -> str:
    times, digits = _times(table), _digits_of(table, row)
    words = f"{times * row.difference:+.{digits}f}"
    if math.isnan(row.difference_low):
        return words
    return f"{words} [{times * row.difference_low:+.{digits}f}, {times * row.difference_high:+.{digits}f}]"


def _verdict(row: Row, base: Row) -> str:
    return (row.verdict or "no verdict") + (" †" if row.open or base.open else "")


def _pipe(rows: Sequence[Sequence[Any]], headings: Sequence[str]) -> str:
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
