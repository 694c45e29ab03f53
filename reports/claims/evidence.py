"""The evidence for claims: tables, the row of Lion in a table, and comparisons between variants of Lion.

A table in which Lion was run with several arguments (ablations of betas, float32 momentum) has a row for each variant;
claims about Lion use the one with the paper's arguments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from reports.protocol import REFERENCE, SUBJECT
from reports.records.reader import read_metrics
from reports.statistics.families import difference, variance_of_choices
from reports.statistics.intervals import Difference, paired_difference
from reports.statistics.learning_curves import mean_curve, seed_curves
from reports.statistics.scoring import points, speedup, steps_to_target
from reports.statistics.selection import SAME, Comparison, Contender
from reports.tables.comparison import Row, Table, batch_groups
from reports.tables.units import unit_of

# AdamW's betas in the paper and those of Lion that go with them: in vision, and in language (section 4.4).
PAPER_BETAS = {"betas 0.9 0.999": "betas 0.9 0.99", "betas 0.9 0.99": "betas 0.95 0.98"}
PAPER_MOMENTUM = "momentum_dtype bfloat16"
TAIL = 0.1  # share of a run whose training loss is averaged: single batches say little


@dataclass(frozen=True)
class Evidence:
    """The input of a criterion: each task's main table, all tables, timings and measurements of the loss landscape."""

    main: list[Table]
    tables: list[Table]
    speeds: pd.DataFrame
    landscape: pd.DataFrame


def main_kind(table: Table, optim: str) -> Contender | None:
    """Return an optimizer's contender; of several variants of Lion, the one with the paper's arguments."""
    if usual := [c for c in table.comparison.contenders if c.label == optim]:
        return usual[0]
    kinds = [c for c in table.comparison.contenders if c.label.startswith(f"{optim} (")]
    of_reference = (arguments_of(c) for c in table.comparison.contenders if c.label == REFERENCE)
    papers = {PAPER_MOMENTUM} | {PAPER_BETAS.get(text, "") for arguments in of_reference for text in arguments}
    return max(kinds, key=lambda c: (len(papers & arguments_of(c)), len(c.runs)), default=None)


def arguments_of(contender: Contender) -> set[str]:
    """Return the arguments other than learning rate and weight decay, each as `name value`."""
    texts = contender.runs["optim_args"].dropna()
    return set(texts.iloc[0].split(", ")) if len(texts) else set()


def row_of(table: Table, optim: str) -> Row | None:
    """Return the row of an optimizer's main kind."""
    contender = main_kind(table, optim)
    return next((row for row in table.rows if contender and row.optim == contender.label), None)


Kinds = tuple[Table, Contender, Contender, str]  # the text is the second contender's argument


def kinds_of(evidence: Evidence, kind: str, others: Sequence[str]) -> list[Kinds]:
    """Return the pairs of Lion that differ in this argument alone, with common seeds enough to compare."""
    pairs = []
    for table in evidence.tables:
        kinds = [c for c in table.comparison.contenders if c.label == SUBJECT or c.label.startswith(f"{SUBJECT} (")]
        lions = [(c, arguments_of(c)) for c in kinds]
        for ours, theirs in itertools.permutations(lions, 2):
            for other in others:
                if kind in ours[1] and other in theirs[1] and ours[1] - {kind} == theirs[1] - {other}:
                    pairs.append((table, ours[0], theirs[0], other))
    return [pair for pair in pairs if not math.isnan(kind_difference(*pair[:3], 1).low)]


def kind_difference(table: Table, ours: Contender, theirs: Contender, comparisons: int) -> Difference:
    """Compare two kinds on the split that their table compares."""
    return difference(ours, theirs, "test" if table.split == "test" else "final", comparisons)


def validation_difference(table: Table, ours: Contender, theirs: Contender, share: float) -> Difference:
    """Compare validation at the first evaluation after a share of the run; allows for the choice of settings."""
    metric, steps = table.comparison.metric or "", table.comparison.steps or 0
    by_seed = []
    for contender in (ours, theirs):
        curve = seed_curves(contender, metric)
        curve = curve[curve["step"] >= share * steps]
        by_seed.append(curve.sort_values("step").groupby("seed")["value"].first())
    return paired_difference(by_seed[0], by_seed[1], choice_variance=variance_of_choices(ours, theirs))


def batch_rows(evidence: Evidence) -> list[list[tuple[Table, Row]]]:
    """Return the subject's rows that were compared, from the smallest batch to the largest, of each group."""
    groups = batch_groups(evidence.tables)
    return [[(t, row) for t in group if (row := row_of(t, SUBJECT)) and row.verdict] for group in groups]


Condition = Literal["augment", "warmup_steps", "schedule"]


def paired_rows(
    evidence: Evidence, varied: Condition, one: Callable[[Comparison], bool], other: Callable[[Comparison], bool]
) -> list[tuple[Table, Row, Row]]:
    """Return the subject's rows under one condition and under another that are alike in everything else recorded."""
    keys = [key for key in SAME if key not in (varied, "conditions")]  # a hash of all conditions, so it differs
    whole = [table for table in evidence.tables if not table.part]
    pairs = []
    for table in whole:
        if not other(table.comparison):
            continue
        same = [t for t in whole if all(getattr(t.comparison, key) == getattr(table.comparison, key) for key in keys)]
        under_one = max((t for t in same if one(t.comparison)), key=lambda t: len(t.rows), default=None)
        rows = under_one and row_of(under_one, SUBJECT), row_of(table, SUBJECT)
        if under_one and rows[0] and rows[1] and rows[0].verdict and rows[1].verdict:
            pairs.append((under_one, rows[0], rows[1]))
    return pairs


def above(table: Table, one: Row, other: Row) -> int:
    """Return 1 if one gain's interval is above the other's, -1 if it is below, 0 if they overlap."""
    sign = 1 if table.comparison.goal == "max" else -1
    ours, theirs = (sorted((sign * row.difference_low, sign * row.difference_high)) for row in (one, other))
    return 1 if ours[0] > theirs[1] else -1 if ours[1] < theirs[0] else 0


def train_loss(contender: Contender) -> pd.Series[float]:
    """Return the mean training loss over the last part of each run at the chosen setting, by seed."""
    losses = {}
    for run in contender.at_choice().to_dict("records"):
        measured = read_metrics(run["path"], "train", "loss")
        tail = measured[measured["step"] > (1 - TAIL) * run["steps"]]
        if len(tail):
            losses[run["seed"]] = float(tail["value"].mean())
    return pd.Series(losses, dtype=float)


def speedup_interval(table: Table, ours: Contender, theirs: Contender) -> tuple[float, float]:
    """Return the ends of the 95% interval of the speed-up in steps, by inverting the paired t test.

    It holds the speed-ups to all steps at which our validation figure and their final one do not differ: the interval
    of the difference over common seeds, which allows for the choice of settings, holds zero. Between evaluations its
    ends lie on straight lines. Where we are worse up to the last step the speed-up is 0; without an interval, the ends
    are 0 and inf.
    """
    metric, sign = table.comparison.metric or "", 1 if table.comparison.goal == "max" else -1
    read = [seed_curves(contender, metric) for contender in (theirs, ours)]
    reference = speedup(points(mean_curve(read[0])), points(mean_curve(read[1])), table.comparison.goal or "max")
    final, variance = theirs.by_seed("final"), variance_of_choices(ours, theirs)
    steps, lows, highs = [], [], []
    for step, there in read[1].groupby("step"):
        found = paired_difference(sign * there.set_index("seed")["value"], sign * final, choice_variance=variance)
        if found.seeds == len(final.index.intersection(ours.by_seed("final").index)):
            steps.append(float(step))  # type: ignore[arg-type]
            lows.append(found.low)
            highs.append(found.high)
    if not steps or np.isnan([*lows, *highs]).any():
        return 0.0, math.inf
    sure = np.minimum.accumulate(lows[::-1])[::-1]  # reached for good
    ends = [steps_to_target((np.array(steps), np.array(values)), 0.0, "max") for values in (sure, highs)]
    low, high = (0.0 if end is None else reference.reference_step / end for end in ends)
    return low, high


def share_unit(table: Table) -> float:
    """Return the divisor that makes a difference a share: 1 for an accuracy, else the reference's mean."""
    if table.comparison.goal == "max":
        return 1.0
    return next((row.compared(table.split)[0] for row in table.rows if row.is_reference), math.nan)


def shares_of(table: Table, row: Row) -> tuple[float, float]:
    """Return the ends of a row's difference as shares."""
    unit = share_unit(table)
    return row.difference_low / unit, row.difference_high / unit


def in_words(found: Difference, table: Table) -> str:
    """Write a difference with its interval in the table's unit."""
    return unit_of(table).difference(found.value, found.low, found.high)
