"""Criteria on how Lion's gain over AdamW depends on a condition: batch size, augmentation, warm-up, schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reports.claims.decision import Outcome, decide
from reports.claims.evidence import (
    Condition,
    Evidence,
    above,
    batch_rows,
    kind_difference,
    main_kind,
    paired_rows,
    shares_of,
)
from reports.protocol import REFERENCE, SUBJECT
from reports.statistics.selection import Comparison
from reports.tables.comparison import Row, Table
from reports.tables.units import difference


def gain_grows(evidence: Evidence) -> Outcome:
    """Compare the gain at the largest batch with that at the smallest."""
    signs, words = [], []
    for rows in batch_rows(evidence):
        if len(rows) > 1:
            (small, low), (large, high) = rows[0], rows[-1]
            signs.append(above(small, high, low))
            sizes = [f"batch {t.comparison.batch_size} {difference(row, t)}" for t, row in (rows[0], rows[-1])]
            words.append(f"{large.comparison.task} {', '.join(sizes)}")
    return decide(signs, "; ".join(words))


def gain_shrinks(evidence: Evidence, strong: str) -> Outcome:
    """Ask whether the gain without strong augmentation is above that under it, each tuned by itself."""
    usual, other = (lambda c: c.augment == "none"), (lambda c: c.augment == strong)
    return _gain_falls(evidence, "augment", usual, other, f"under {strong}")


def longer_warmup_gains(evidence: Evidence, share: float) -> Outcome:
    """Ask whether the gain with this share of the steps as warm-up is above that without any, each tuned by itself."""

    def warmed(comparison: Comparison) -> bool:
        return comparison.warmup_steps is not None and comparison.warmup_steps == share * (comparison.steps or 0)

    return _gain_falls(evidence, "warmup_steps", warmed, lambda c: c.warmup_steps == 0, "without warm-up")


def schedule_gains(evidence: Evidence, more: str, less: str) -> Outcome:
    """Ask whether the gain with one schedule is above that with another, each tuned by itself."""
    usual, other = (lambda c: c.schedule == more), (lambda c: c.schedule == less)
    return _gain_falls(evidence, "schedule", usual, other, f"with {less}")


def _gain_falls(
    evidence: Evidence,
    varied: Condition,
    usual: Callable[[Comparison], bool],
    other: Callable[[Comparison], bool],
    words: str,
) -> Outcome:
    pairs = paired_rows(evidence, varied, usual, other)
    shown = [
        f"{table.comparison.task} {difference(row, table)}, {words} {difference(under_other, table)}"
        for table, row, under_other in pairs
    ]
    return decide([above(*pair) for pair in pairs], "; ".join(shown))


def larger_best_batch(evidence: Evidence) -> Outcome:
    """Ask whether the subject does best at a larger batch than the reference.

    It does if every batch that may be its best is larger than every batch that may be the reference's.
    """
    signs, words = [], []
    for rows in batch_rows(evidence):
        if len(rows) < 2:
            continue
        tables = [table for table, _ in rows]
        ours, theirs = (_best_batches(tables, name) for name in (SUBJECT, REFERENCE))
        signs.append(int(min(ours) > max(theirs)) - int(max(ours) < min(theirs)))
        named = [f"{name} {' or '.join(map(str, best))}" for name, best in ((SUBJECT, ours), (REFERENCE, theirs))]
        words.append(f"{tables[0].comparison.task} {', '.join(named)}")
    return decide(signs, "; ".join(words))


def _best_batches(tables: Sequence[Table], optim: str) -> list[int]:
    """Return the batch sizes that may be an optimizer's best: at no other is it shown to be better.

    Comparisons with the best (Hsu, 1981), simultaneous for this optimizer and the other one.
    """
    contenders = [contender for table in tables if (contender := main_kind(table, optim))]
    goal, comparisons = tables[0].comparison.goal or "max", 2 * (len(tables) - 1)
    best = []
    for table, contender in zip(tables, contenders, strict=True):
        others = [other for other in contenders if other is not contender]
        found = [kind_difference(table, contender, other, comparisons) for other in others]
        if all(each.verdict(goal) != "worse" for each in found):
            best.append(table.comparison.batch_size or 0)
    return best


def no_gain_below(evidence: Evidence, batch: int, within: float) -> Outcome:
    """Ask whether the subject gains nothing at all smaller batches, up to a margin."""
    rows = [(t, row) for rows in batch_rows(evidence) for t, row in rows if (t.comparison.batch_size or batch) < batch]
    details = ", ".join(f"batch {table.comparison.batch_size} {difference(row, table)}" for table, row in rows)
    return without_gain(rows, within, details)


def worse_at_smallest(evidence: Evidence) -> Outcome:
    """Ask how the subject does at each task's smallest batch."""
    rows = [rows[0] for rows in batch_rows(evidence) if rows]
    details = ", ".join(f"batch {table.comparison.batch_size} {difference(row, table)}" for table, row in rows)
    return decide([{"worse": 1, "better": -1}.get(row.verdict, 0) for _, row in rows], details)


def without_gain(rows: Sequence[tuple[Table, Row]], within: float, details: str) -> Outcome:
    """Ask whether the subject gains nothing in these rows, up to a margin."""
    signs = []
    for table, row in rows:
        low, high = shares_of(table, row)
        gain = high if table.comparison.goal == "max" else -low
        signs.append((gain <= within) - (row.verdict == "better"))
    return decide(signs, details)
