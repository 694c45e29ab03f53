"""The tables' answer to "should I train with Lion?", as counts and as a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.protocol import NEEDED, REFERENCE, SUBJECT
from reports.statistics.families import difference
from reports.statistics.intervals import NO_DIFFERENCE
from reports.tables.comparison import Row, Table

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHARES = {1.0: "all", 0.75: "three quarters", 0.5: "half", 0.25: "a quarter", 0.125: "an eighth"}
NAMES = {
    "adamw": "AdamW",
    "sgd": "SGD",
    "radam": "RAdam",
    "nadam": "NAdam",
    "adabelief": "AdaBelief",
    "amsgrad": "AMSGrad",
}  # optimizers whose names are not written in lower case


VERDICTS = {"better": "better", "worse": "worse", "neither": NO_DIFFERENCE}


@dataclass(frozen=True)
class Counts:
    """On how many tasks the subject is better than the reference, worse, or neither, by the protocol.

    `open` counts those on which the trials do not enclose one of the two chosen settings.
    """

    better: int
    worse: int
    neither: int
    open: int

    @property
    def total(self) -> int:
        """All tasks with a verdict."""
        return self.better + self.worse + self.neither


def pair(table: Table, subject: str = SUBJECT) -> tuple[Row, Row] | None:
    """Return the subject's row and the reference's, or None if either is missing."""
    row = next((row for row in table.rows if row.optim == subject), None)
    base = next((row for row in table.rows if row.is_reference), None)
    return (row, base) if row is not None and base is not None and row is not base else None


def count(tables: Sequence[Table]) -> Counts:
    """Count the verdicts of the tables, one a task."""
    judged = [rows for table in tables if (rows := pair(table)) and rows[0].verdict]
    words = [row.verdict for row, _ in judged]
    unsure = sum(row.open or base.open for row, base in judged)
    return Counts(**{name: words.count(word) for name, word in VERDICTS.items()}, open=unsure)


def count_together(tables: Sequence[Table]) -> Counts:
    """Count the verdicts by intervals that are simultaneous over the tables (Bonferroni)."""
    judged = [table for table in tables if (rows := pair(table)) and rows[0].verdict]
    words = [_verdict(table, len(judged)) for table in judged]
    return replace(count(tables), **{name: words.count(word) for name, word in VERDICTS.items()})


def _verdict(table: Table, comparisons: int) -> str:
    contenders = {contender.label: contender for contender in table.comparison.contenders}
    column = "test" if table.split == "test" else "final"
    gap = difference(contenders[SUBJECT], contenders[table.reference], column, comparisons)
    return gap.verdict(table.comparison.goal or "max")


def answer(tables: Sequence[Table]) -> str:
    """Return a few sentences on the number of tasks on which the subject is better, worse, or shows no difference."""
    counts, together = count(tables), count_together(tables)
    if not counts.total:
        return f"{SUBJECT.title()} and {REFERENCE} have not been compared by the protocol yet."
    words = (
        f"On the {number(counts.total)} small models measured so far, {SUBJECT.title()} is better than AdamW on "
        f"{number(counts.better)}, worse on {number(counts.worse)}, and on {number(counts.neither)} no "
        "difference is shown."
    )
    if counts.total > 1:
        words += (
            " Each interval is for its task alone; with intervals that hold for all of them at once, it is better on "
            f"{number(together.better)} and worse on {number(together.worse)}."
        )
    if counts.open:
        words += (
            f" On {number(counts.open)} of them a chosen setting is not enclosed by what was tried (an open circle), "
            "and a wider grid may change what is shown."
        )
    return words


def headline(tables: Sequence[Table]) -> str:
    """Answer in one sentence: for accuracy by the majority of verdicts, for memory by the size of the state."""
    counts, state = count(tables), state_share(tables)
    subject, reference = name(SUBJECT), name(tables[0].reference if tables else REFERENCE)
    memory = f"it keeps {state} of {reference}'s optimizer state" if state else ""
    if not counts.total:
        reason = f"no task has {NEEDED} of both {subject} and {reference} yet"
        return f"Not known yet: {reason}" + (f"; for memory, {memory}." if memory else ".")
    kind = "small model" if {table.comparison.scale for table in tables} == {"embedded"} else "task"
    tasks = f"{number(counts.total)} {kind}{'s' if counts.total > 1 else ''}"
    verdicts = (
        f"against a tuned {reference} on {tasks}, {subject} is better on {number(counts.better)}, worse on "
        f"{number(counts.worse)}, and shows no difference on {number(counts.neither)}"
    )
    if 2 * counts.better > counts.total:
        return f"Yes, on tasks like these: {verdicts}" + (f"; and {memory}." if memory else ".")
    first = f"To save memory, yes: {memory}. For better results, " if memory else "For better results, "
    doubt = "no" if 2 * counts.worse > counts.total else "do not count on it"
    return f"{first}{doubt}: {verdicts}."


def state_share(tables: Sequence[Table]) -> str:
    """Return the subject's share of the reference's optimizer state over the tasks: "a quarter to half"."""
    shares = [
        row.optimizer_state_bytes / base.optimizer_state_bytes
        for table in tables
        for row, base in filter(None, [pair(table)])
        if base.optimizer_state_bytes > 0 and not math.isnan(row.optimizer_state_bytes)
    ]
    ends = list(dict.fromkeys(_share(share) for share in (min(shares), max(shares)))) if shares else []
    return " to ".join(ends)


def _share(share: float) -> str:
    near = next((words for value, words in SHARES.items() if abs(share / value - 1) < 0.02), None)
    return near or f"{share:.2f}"


def name(optim: str) -> str:
    """Write an optimizer's name as a word, with the arguments of a variant unchanged: Lion, AdamW (eps 1e-08)."""
    plain, bracket, variant = optim.partition(" (")
    return NAMES.get(plain, plain.title()) + bracket + variant


def number(count: int) -> str:
    """Write a small count as a word."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)
