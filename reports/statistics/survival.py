"""Count the runs that completed or diverged at each learning rate of an optimizer."""

from __future__ import annotations

import pandas as pd

from reports.records.reader import STATUSES


def survival(runs: pd.DataFrame) -> pd.DataFrame:
    """Count how runs ended at each learning rate of each optimizer, over all weight decays and seeds.

    Args:
        runs: Rows of `reports.records.reader.read_records`, of one comparison.

    Returns:
        A row an optimizer and learning rate, sorted: optim, lr, runs, then `completed`, `diverged`, `failed` and
        `interrupted`, which add up to runs; `survived`, the share completed / (completed + diverged), nan where no run
        came to either end, for a run that failed or was interrupted says nothing of the learning rate; `first_step`,
        the earliest step at which one diverged (missing: none did, or none says when), and `causes` of divergence,
        each once, joined by semicolons.
    """
    diverged = runs["status"] == "diverged"
    counts = {status: (status, "sum") for status in STATUSES}
    by_rate = (
        runs[["optim", "lr"]]
        .assign(**{status: (runs["status"] == status).astype("int64") for status in STATUSES})
        .assign(step=runs["diverged_step"].where(diverged), cause=runs["cause"].where(diverged))
        .groupby(["optim", "lr"], dropna=False, as_index=False)
        .agg(runs=("optim", "size"), **counts, first_step=("step", "min"), causes=("cause", _joined))
    )
    by_rate["survived"] = by_rate["completed"] / (by_rate["completed"] + by_rate["diverged"])
    return by_rate[["optim", "lr", "runs", *STATUSES, "survived", "first_step", "causes"]]


def _joined(causes: pd.Series[str]) -> str:
    return "; ".join(sorted({" ".join(cause.split()) for cause in causes.dropna()}))
