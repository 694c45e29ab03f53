"""The data behind all published files: tables, verdicts and facts, read once from the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from reports.claims.evaluation import Verdict, evaluate
from reports.evidence import counts, ledger
from reports.evidence.suggestion import Asked, suggest
from reports.evidence.tables import cited
from reports.evidence.tuned_pairs import TunedPair, collect
from reports.protocol import REFERENCE
from reports.records.landscape import read_landscape
from reports.records.reader import read_records
from reports.records.speeds import read_speeds
from reports.statistics.tuning_curves import tuning_curve
from reports.tables.comparison import FIELD, Table, build_tables
from reports.tables.paper_comparison import main_tables
from reports.tables.setting_transfer import Ladder, Setting, transfer_ladders


@dataclass(frozen=True)
class Results:
    """Everything that tables, figures and the page are made from."""

    runs: pd.DataFrame
    speeds: pd.DataFrame
    reference: str
    tables: list[Table]
    main: list[Table]  # one a task, the one with most optimizers
    field: list[Table]  # one a task with runs of optimizers of 2026
    verdicts: list[Verdict]
    others: dict[str, list[str]]  # what other studies found, sentences by the claim's id
    transfer: list[Ladder]  # tuned comparisons that differ in width, steps or batch size alone
    about: dict[str, Any]
    problems: list[str]


def read_results(folder: Path) -> Results:
    """Read the records, timings and facts under a folder."""
    records = read_records([folder / "records"])
    about = yaml.safe_load((folder / "about.yaml").read_text(encoding="utf-8"))
    speeds, landscape = read_speeds([folder / "speed"]), read_landscape([folder / "landscape"])
    further = read_records([folder / "transfer"]) if (folder / "transfer").is_dir() else None
    problems = [*records.problems, *(further.problems if further else [])]
    return compared(
        records.runs, speeds, REFERENCE, about, problems, landscape, None if further is None else further.runs
    )


def compared(
    runs: pd.DataFrame,
    speeds: pd.DataFrame,
    reference: str,
    about: dict[str, Any] | None = None,
    problems: Sequence[str] = (),
    landscape: pd.DataFrame | None = None,
    further: pd.DataFrame | None = None,
) -> Results:
    """Compare runs; `about` has a title, text (lines) and facts (names and values).

    `further` runs are those at other widths, steps and batch sizes: they stand in the tables of how settings transfer
    alone.
    """
    tables = build_tables(runs, reference, speeds)
    verdicts = evaluate(tables, speeds, landscape)
    about = about or {"title": "Comparison of optimizers", "text": [], "facts": {}}
    main = main_tables(tables)
    field = main_tables(tables, FIELD)
    transfer = transfer_ladders([*tables, *([] if further is None else build_tables(further, reference))])
    others, problems = of_other_studies(), list(problems)
    return Results(runs, speeds, reference, tables, main, field, verdicts, others, transfer, about, problems)


def suggested(setting: Setting) -> Setting:
    """Return the learning rate and weight decay that scripts/suggest.py begins with for Lion, from AdamW's."""
    return suggest(Asked(*setting), _tuned_pairs()).centre


@cache
def _tuned_pairs() -> list[TunedPair]:
    return collect(ledger.read())[0]


@cache
def of_other_studies() -> dict[str, list[str]]:
    """Return what the ledger of other studies (reports/evidence) counts and cites on each of our claims, by id."""
    by_claim: dict[str, list[str]] = {}
    for claim in counts.evaluate(ledger.read()):
        if claim.suite is None:
            continue
        sentences = by_claim.setdefault(claim.suite, [])
        if claim.counts and claim.counts.total:
            of = claim.counts
            sides = f"{of.supports} for, {of.contradicts} against" + (f", {of.neither} neither" if of.neither else "")
            sentences.append(f"{sides}, of {of.total} {of.unit}: {of.words}" if of.words else sides)
        if claim.statements:
            sentences.append(f"Cited: {cited(claim)}")
    return by_claim


def tuning_curves(table: Table) -> dict[str, pd.DataFrame]:
    """Return the expected best of k trials of each optimizer with more than one trial."""
    swept = [contender for contender in table.comparison.contenders if len(contender.settings) > 1]
    of_each = [contender.settings["final"].dropna() for contender in swept]
    if not any(len(finals) for finals in of_each):
        return {}
    goal, finals = table.comparison.goal or "max", pd.concat(of_each)
    worst, best = finals.min(), 1.0 if finals.between(0, 1).all() else None  # between 0 and 1: treated as shares
    if goal == "min":
        worst, best = finals.max(), 0.0 if finals.min() >= 0 else None
    return {
        c.label: tuning_curve(c.settings["final"], goal, range(1, len(c.settings) + 1), worst=float(worst), best=best)
        for c in swept
    }


def facts(results: Results) -> list[tuple[str, str]]:
    """Return the hardware and software of the records."""
    stated = [(str(name), str(value)) for name, value in results.about["facts"].items()]
    commits = sorted({str(commit)[:10] for commit in results.runs["git_commit"].dropna()})
    return [*stated, ("runs", f"{len(results.runs):,}"), ("commits of the code", ", ".join(commits))]
