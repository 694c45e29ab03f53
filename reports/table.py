"""The comparison table: a row an optimizer, with what was tried, what came of it and what it cost.

Every run counts: one that diverged, failed or was interrupted is in the numbers of its row, and an optimizer
none of whose runs completed still has its row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from reports.selection import SAME, Comparison, Contender, comparisons, on_border
from reports.statistics import Difference, mean_and_sd, paired_difference


@dataclass(frozen=True)
class Row:
    """One optimizer's row. Numbers that do not exist, such as the mean of no runs, are nan.

    `trials` are the settings that completed or diverged, `most_trials` those of the rival with most. `val_*`
    and `test_*` are over the `seeds` completed at the chosen setting, where `diverged_there` runs diverged
    and `repeated` says that a seed was run more than once. Times and memory are medians over the
    runs that completed or diverged.
    `difference` is to the reference row, on the split that the table compares.
    """

    optim: str
    variant: str
    is_reference: bool
    lr: float
    weight_decay: float
    lr_on_border: bool
    weight_decay_on_border: bool
    untuned: bool
    trials: int
    most_trials: int
    runs: int
    completed: int
    diverged: int
    failed: int
    interrupted: int
    seeds: int
    diverged_there: int
    repeated: bool
    val_mean: float
    val_sd: float
    test_mean: float
    test_sd: float
    difference: float
    difference_low: float
    difference_high: float
    common_seeds: int
    verdict: str
    steps_per_second: float
    optimizer_step_ms: float
    optimizer_state_bytes: float
    run_ids: str


@dataclass(frozen=True)
class Table:
    """The rows of one comparison, the reference first; `split` is the one whose values are compared."""

    comparison: Comparison
    reference: str
    split: str
    rows: list[Row]


def build_tables(runs: pd.DataFrame, reference: str) -> list[Table]:
    """Build a table for each comparison among the runs, as read by `read_records`."""
    return [build_table(comparison, reference) for comparison in comparisons(runs)]


def build_table(comparison: Comparison, reference: str) -> Table:
    """Build the table of one comparison; `reference` names the optimizer that the others are held against.

    Differences are of test values where any chosen setting has them, and else of validation values.
    """
    contenders = comparison.contenders
    split = "test" if any(c.at_choice()["test"].notna().any() for c in contenders) else "val"
    base = _reference(contenders, reference)
    most = max(len(c.settings) for c in contenders)
    rows = [_row(c, base, split, comparison.goal or "max", most) for c in contenders]
    rows.sort(key=lambda row: (not row.is_reference, row.optim))
    return Table(comparison, reference, split, rows)


def to_frame(tables: Sequence[Table]) -> pd.DataFrame:
    """Return all rows of all tables as numbers, each with what its comparison has in common."""
    frame = pd.DataFrame(
        {
            **{key: getattr(table.comparison, key) for key in SAME},
            "reference": table.reference,
            "compared_on": table.split,
            **asdict(row),
        }
        for table in tables
        for row in table.rows
    )
    return frame.astype({"num_parameters": "Int64", "batch_size": "Int64", "steps": "Int64"})


def _reference(contenders: Sequence[Contender], reference: str) -> Contender | None:
    """Find the reference by its label: the optimizer's name, with its variant where there are several."""
    return next((contender for contender in contenders if contender.label == reference), None)


def _row(contender: Contender, base: Contender | None, split: str, goal: str, most_trials: int) -> Row:
    runs, chosen, settings = contender.runs, contender.chosen, contender.settings
    completed = contender.at_choice()
    ended = runs[runs["status"].isin(["completed", "diverged"])]
    tuned = (runs if chosen is None else completed)["tuned"]
    val_mean, val_sd = mean_and_sd(contender.by_seed("final"))
    test_mean, test_sd = mean_and_sd(contender.by_seed("test"))
    column = "test" if split == "test" else "final"
    difference = Difference(math.nan, math.nan, math.nan, 0)
    if base is not None and base is not contender:
        difference = paired_difference(contender.by_seed(column), base.by_seed(column))
    return Row(
        optim=contender.label,
        variant=", ".join(sorted(runs["variant"].dropna().unique())),
        is_reference=base is contender,
        lr=math.nan if chosen is None else float(chosen["lr"]),
        weight_decay=math.nan if chosen is None else float(chosen["weight_decay"]),
        lr_on_border=chosen is not None and on_border(settings, chosen, "lr"),
        weight_decay_on_border=chosen is not None and on_border(settings, chosen, "weight_decay"),
        untuned=bool((tuned == "none").any()),
        trials=len(settings),
        most_trials=most_trials,
        runs=len(runs),
        completed=len(contender.with_status("completed")),
        diverged=len(contender.with_status("diverged")),
        failed=len(contender.with_status("failed")),
        interrupted=len(contender.with_status("interrupted")),
        seeds=completed["seed"].nunique(dropna=False),
        diverged_there=len(contender.at_choice("diverged")),
        repeated=bool(completed["seed"].duplicated().any()),
        val_mean=val_mean,
        val_sd=val_sd,
        test_mean=test_mean,
        test_sd=test_sd,
        difference=difference.value,
        difference_low=difference.low,
        difference_high=difference.high,
        common_seeds=difference.seeds,
        verdict=difference.verdict(goal),
        steps_per_second=float(ended["steps_per_second"].median()),
        optimizer_step_ms=float(ended["optimizer_step_ms"].median()),
        optimizer_state_bytes=float(ended["optimizer_state_bytes"].astype("float64").median()),
        run_ids=" ".join(sorted(completed["run_id"].dropna())),
    )
