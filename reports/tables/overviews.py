"""Overviews over several tasks: the paper's figures and ours, ranks, survival, speed and memory.

A grid holds texts; Markdown and the page are rendered from the same grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
from tabulate import tabulate

from reports.number_format import NONE, fixed, interval, short_number
from reports.protocol import NEEDED
from reports.statistics.intervals import NO_DIFFERENCE
from reports.statistics.scoring import compared_alike, mean_ranks, profile_scores, rank_agreement
from reports.statistics.survival import survival
from reports.tables.comparison import FIELD, Row, Table
from reports.tables.names import metric_name
from reports.tables.paper_comparison import PaperComparison
from reports.tables.render import plain, titles
from reports.tables.units import difference, unit_of


@dataclass(frozen=True)
class Grid:
    """Texts in rows and columns with a caption above and notes below."""

    caption: str
    cells: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def to_markdown(grid: Grid) -> str:
    """Return a grid as Markdown."""
    shown = grid.cells.map(plain)
    body = tabulate(shown, headers="keys", showindex=False, tablefmt="pipe", disable_numparse=True)
    notes = "\n".join(f"- {plain(note)}" for note in grid.notes)
    return "\n\n".join(part for part in (f"### {plain(grid.caption)}", body, notes) if part) + "\n"


def paper_grid(entry: PaperComparison) -> Grid:
    """Compare the paper's figures with ours, a row an optimizer on a model."""
    scales = sorted({table.comparison.scale or "unknown" for table in entry.tables})
    ours = f"ours (scale {', '.join(scales)})" if scales else "ours"
    rows = []
    for pair in entry.pairs:
        row = pair.row
        gain = NONE
        if row is not None and not row.is_reference and not math.isnan(row.difference):
            gain = fixed(entry.ours_times * row.difference, 2, "+")
            if not math.isnan(row.difference_low):
                low, high = (entry.ours_times * end for end in (row.difference_low, row.difference_high))
                gain += f" {interval(low, high, 2, '+')}"
        rows.append(
            {
                "model": pair.model,
                "optimizer": pair.optimizer,
                "paper": fixed(pair.paper, 2),
                "paper, minus AdamW": NONE if math.isnan(pair.paper_gain) else fixed(pair.paper_gain, 2, "+"),
                "our task": pair.task or NONE,
                ours: "not run" if math.isnan(pair.ours) else fixed(pair.ours, 2),
                f"{ours}, minus adamw": gain,
                "verdict of ours": (row.verdict if row is not None else "") or NONE,
            }
        )
    notes = [f"Paper: {entry.unit}, scale paper. Ours: {entry.ours}."]
    for table in entry.tables:
        notes.append(f"{table.comparison.task}: {table.comparison.data}, {table.split} {table.comparison.metric}")
    ours_are = f"the paper beside scale {', '.join(scales)}" if scales else "the paper alone, nothing of it is run yet"
    return Grid(f"{entry.heading}: {ours_are}", pd.DataFrame(rows), notes)


def ranks_grid(tables: Sequence[Table]) -> Grid | None:
    """Rank the optimizers that were tuned on the same tasks; None for fewer than two.

    A row with fewer trials or seeds than the protocol asks for has no rank. Tables of the field of 2026 are ranked at
    equal time, too.
    """
    tables = [replace(table, rows=[row for row in table.rows if not row.untuned]) for table in tables]
    ran = pd.DataFrame({t.comparison.task: {r.optim: True for r in t.rows} for t in tables}).T.notna()
    alike = compared_alike(ran)
    if len(alike) < 2 or len(alike.columns) < 2:
        return None
    kept = [table for table in tables if table.comparison.task in alike.index]
    finals = pd.DataFrame({t.comparison.task: {r.optim: r.compared(t.split)[0] for r in t.rows} for t in kept}).T
    goals = {table.comparison.task: table.comparison.goal or "max" for table in kept}
    times = pd.DataFrame({t.comparison.task: {row.optim: row.target_step for row in t.rows} for t in kept}).T
    finals, times = finals[alike.columns], times[alike.columns].clip(lower=1)  # a figure had before the first step
    ranks, scores = mean_ranks(finals, goals), profile_scores(times)
    first = finals.mul([-1 if goal == "max" else 1 for goal in goals.values()], axis=0).rank(axis=1, method="min") == 1
    field = any(table.part == FIELD for table in tables)
    in_time = pd.DataFrame({t.comparison.task: {r.optim: r.in_time_mean for r in t.rows} for t in kept}).T[
        alike.columns
    ]
    timed = mean_ranks(in_time, goals) if in_time.notna().all(axis=None) else pd.Series(dtype=float)
    at_equal_time = f"mean rank in {tables[0].reference}'s time"
    rows = [
        {
            "optimizer": optim,
            "mean rank": f"{ranks[optim]:.2f}",
            **({at_equal_time: f"{timed[optim]:.2f}" if len(timed) else "not measured"} if field else {}),
            "score to the reference's figure": f"{scores[optim]:.3f}",
            "best on": ", ".join(first.index[first[optim]]) or NONE,
        }
        for optim in sorted(ranks.index, key=lambda optim: (ranks[optim], optim))
    ]
    notes = [
        "mean rank: over tasks, by the mean figure that each task compares; ties share their ranks. Mean Kendall tau "
        f"between two tasks' orders: {rank_agreement(finals, goals):+.2f} (1: the same order on all; 0: the order on "
        "one task says nothing of another's).",
        f"score: area under the performance profile of steps to {tables[0].reference}'s final validation figure, from "
        "1 to 4 times the fastest's, as AlgoPerf scores; never reached counts as infinitely long. "
        "The reference reaches its own figure by definition, which raises its score.",
        "Tasks: " + ", ".join(goals) + ". So few tasks say little about others.",
    ]
    if field:
        notes.append(
            f"{at_equal_time}: by the validation figure in the time of its full run; measured where each was timed on "
            "every task."
        )
    if left_out := [*ran.columns.difference(alike.columns), *ran.index.difference(alike.index)]:
        notes.append(
            "Left out, since not every optimizer here ran on every task with them: " + ", ".join(left_out) + "."
        )
    which = f", {FIELD}" if field else ""
    return Grid(f"Ranks over {len(kept)} tasks{which}", pd.DataFrame(rows), notes)


def survival_grid(tables: Sequence[Table]) -> Grid:
    """Show how many runs survived at each learning rate at which any diverged, and how many of the others did."""
    rows = []
    for table, title in zip(tables, titles(tables), strict=True):
        runs = pd.concat([c.runs.assign(optim=c.label) for c in table.comparison.contenders])
        by_rate = survival(runs)
        diverged = by_rate[by_rate["diverged"] > 0]
        rows += [
            {
                "task": title,
                "optimizer": str(row["optim"]),
                "lr": short_number(row["lr"]),
                "diverged": f"{row['diverged']} of {row['runs']} runs",
                "first bad step": short_number(float(row["first_step"])),
                "cause": str(row["causes"]),
            }
            for row in diverged.to_dict("records")
        ]
        which = "all" if diverged.empty else "all others"
        total = {"task": title, "optimizer": which, "lr": "all", "first bad step": NONE, "cause": NONE}
        rows.append({**total, "diverged": f"0 of {len(runs) - int(diverged['runs'].sum())} runs"})
    return Grid("Runs that diverged", pd.DataFrame(rows))


def speed_grid(speeds: pd.DataFrame) -> Grid | None:
    """Show steps per second relative to the reference's, and the bytes of state a trained parameter."""
    if speeds.empty:
        return None
    rows = []
    for speed in speeds.sort_values(["task", "ratio"], ascending=[True, False]).to_dict("records"):
        alone, state = math.isnan(speed["ratio"]), speed["state_bytes"] / speed["trained_parameters"]
        rows.append(
            {
                "task": speed["task"],
                "optimizer": speed["optim"],
                "step": speed["step"],
                "steps/s over " + speed["reference"] + "'s": NONE if alone else f"{speed['ratio']:.3f}",
                "quartiles": NONE if alone else f"{speed['low']:.3f} to {speed['high']:.3f}",
                "optimizer step, ms": f"{speed['optimizer_step_ms']:.2f}",
                "state, bytes a trained parameter": NONE if math.isnan(state) else f"{state:.2f}",
            }
        )
    notes = [
        "Timed in turn in one process, one thread: scripts/speed.py. Processor: " + speeds["processor"].iloc[0] + ".",
        "Speeds are over the reference's with the same kind of step; a dash: the reference was not timed so.",
    ]
    return Grid("Speed and memory, by kind of step", pd.DataFrame(rows), notes)


def summary_lines(tables: Sequence[Table], optim: str) -> list[str]:
    """Return a line for each table on the comparison of one optimizer with the reference."""
    lines = []
    for table, title in zip(tables, titles(tables), strict=True):
        row = next((row for row in table.rows if row.optim == optim), None)
        base = next((row for row in table.rows if row.is_reference), None)
        if row is None or base is None or table.part:
            continue
        lines.append(f"{title} on {table.comparison.data}: {_sentence(row, base, table)}")
    return lines


def _sentence(row: Row, base: Row, table: Table) -> str:
    if row.seeds == 0 or base.seeds == 0:
        return f"{row.optim} or {base.optim} has no completed run at its chosen setting"
    ours, theirs = (unit_of(table).figure(*r.compared(table.split)) for r in (row, base))
    words = {
        "better": f"{row.optim} is better",
        "worse": f"{row.optim} is worse",
        "": f"no verdict below {NEEDED}",
    }.get(row.verdict, NO_DIFFERENCE)
    direction = " (lower is better)" if table.comparison.goal == "min" else ""
    return (
        f"{table.split} {metric_name(table.comparison)}{direction}, {row.optim} {ours}, {base.optim} {theirs}, "
        f"difference {difference(row, table)} over {row.common_seeds} seeds: {words}" + _open_in_words(row, base)
    )


def _open_in_words(*rows: Row) -> str:
    """Name the rows whose setting the trials do not enclose."""
    names = [row.optim for row in rows if row.open]
    return f" (settings of {' and '.join(names)} not enclosed: a better one may lie beyond)" if names else ""
