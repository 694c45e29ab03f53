"""Criteria on how Lion's gain over AdamW depends on a condition: batch size, augmentation, warm-up, schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reports.claims.decision import Outcome, decide
from reports.claims.evidence import Evidence, above, batch_rows, main_kind, paired_rows, shares_of
from reports.protocol import REFERENCE, SUBJECT
from reports.statistics.selection import Comparison
from reports.tables.comparison import Row, Table
from reports.tables.units import difference

DRAWS = 2000  # of a bootstrap over seeds
TAIL = 0.025


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
    return _gain_falls(evidence, lambda c: c.augment == "none", lambda c: c.augment == strong, f"under {strong}")


def longer_warmup_gains(evidence: Evidence, share: float) -> Outcome:
    """Ask whether the gain with this share of the steps as warm-up is above that without any, each tuned by itself."""

    def warmed(comparison: Comparison) -> bool:
        return comparison.warmup_steps is not None and comparison.warmup_steps == share * (comparison.steps or 0)

    return _gain_falls(evidence, warmed, lambda c: c.warmup_steps == 0, "without warm-up")


def schedule_gains(evidence: Evidence, more: str, less: str) -> Outcome:
    """Ask whether the gain with one schedule is above that with another, each tuned by itself."""
    return _gain_falls(evidence, lambda c: c.schedule == more, lambda c: c.schedule == less, f"with {less}")


def _gain_falls(
    evidence: Evidence, usual: Callable[[Comparison], bool], other: Callable[[Comparison], bool], words: str
) -> Outcome:
    pairs = paired_rows(evidence, usual, other)
    shown = [
        f"{table.comparison.task} {difference(row, table)}, {words} {difference(under_other, table)}"
        for table, row, under_other in pairs
    ]
    return decide([above(*pair) for pair in pairs], "; ".join(shown))


def larger_best_batch(evidence: Evidence) -> Outcome:
    """Ask whether the subject does best at a larger batch than the reference, by a bootstrap over seeds.

    A sample draws, at each batch size, from the fresh seeds of each optimizer with replacement.
    """
    signs, words = [], []
    for rows in batch_rows(evidence):
        if len(rows) < 2:
            continue
        sizes = np.array([table.comparison.batch_size for table, _ in rows])
        best = [sizes[_best_places([table for table, _ in rows], name)] for name in (SUBJECT, REFERENCE)]
        larger, smaller = float((best[0] > best[1]).mean()), float((best[0] < best[1]).mean())
        signs.append((larger >= 1 - TAIL) - (smaller >= 1 - TAIL))
        words.append(f"{rows[0][0].comparison.task} larger in {larger:.1%} of samples, smaller in {smaller:.1%}")
    return decide(signs, ", ".join(words))


def _best_places(tables: Sequence[Table], optim: str) -> np.ndarray:
    """Return the index of the best mean in each sample, [DRAWS]."""
    generator = np.random.default_rng(0)
    means = []
    for table in tables:
        contender = main_kind(table, optim)
        assert contender is not None, "rows that were compared have both"
        figures = contender.by_seed("test" if table.split == "test" else "final").to_numpy(dtype=float)
        sign = 1 if table.comparison.goal == "max" else -1
        means.append(sign * generator.choice(figures, size=(DRAWS, len(figures))).mean(axis=1))
    places: np.ndarray = np.argmax(means, axis=0)
    return places


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
