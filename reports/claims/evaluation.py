"""Evaluate the claims in reports/claims/claims.yaml by run records; without records there is no verdict.

Records count if the protocol was followed (reports/protocol.py) and the trials enclose the chosen setting; with fewer
trials or fresh seeds a claim is not run. Each `test` in the file names a function of reports/claims/criteria.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import yaml

from reports.claims.criteria import CRITERIA
from reports.claims.decision import Outcome, Word
from reports.claims.evidence import Evidence, row_of
from reports.number_format import NONE
from reports.protocol import REFERENCE, SUBJECT, TIMING_ROUNDS
from reports.tables.comparison import Table
from reports.tables.overviews import Grid
from reports.tables.paper_comparison import main_tables

CLAIMS = Path(__file__).with_name("claims.yaml")


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim and its evidence."""

    id: str
    claim: str
    source: str
    experiment: str
    measure: str
    rule: str
    verdict: Word
    evidence: str


def evaluate(
    tables: Sequence[Table], speeds: pd.DataFrame, landscape: pd.DataFrame | None = None, path: Path = CLAIMS
) -> list[Verdict]:
    """Evaluate every claim in the file, in its order."""
    open_tasks = {
        table.comparison.task
        for table in main_tables(tables)
        if any((row := row_of(table, name)) and row.open and not row.untuned for name in (SUBJECT, REFERENCE))
    }
    tables = [by_protocol(table) for table in tables]
    timed = speeds[speeds["rounds"] >= TIMING_ROUNDS] if "rounds" in speeds else speeds.iloc[:0]
    noise = pd.DataFrame() if landscape is None else landscape
    evidence = Evidence(main_tables(tables), tables, timed, noise)
    verdicts = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        criterion: Callable[..., Outcome] = CRITERIA[entry["test"]]
        parameters = inspect.signature(criterion).parameters
        arguments = {name: value for name, value in entry.items() if name in parameters and name != "tasks"}
        main = [t for t in evidence.main if "tasks" not in entry or t.comparison.task in entry["tasks"]]
        word, words = criterion(replace(evidence, main=main), **arguments)
        if word == "not run" and (tasks := open_tasks & set(entry.get("tasks", open_tasks))):
            word = "not judged"
            words = f"the chosen setting is not enclosed by what was tried: {', '.join(sorted(tasks))}"
        described = {name: entry[name] for name in ("id", "claim", "source", "experiment", "measure", "rule")}
        verdicts.append(Verdict(**described, verdict=word, evidence=words))
    return verdicts


def by_protocol(table: Table) -> Table:
    """Return a table with only the rows by which claims may be judged.

    A row whose seeds diverged counts only where it has a verdict in spite of that: if it is worse all the same. If the
    reference's setting is not enclosed, nothing is compared with it.
    """
    reference = next((row for row in table.rows if row.is_reference), None)
    broken = reference is not None and reference.diverged_there > 0
    followed = {
        row.optim
        for row in table.rows
        if not (row.untuned or row.open) and (row.verdict or row.is_reference or not (row.diverged_there or broken))
    }
    contenders = [contender for contender in table.comparison.contenders if contender.label in followed]
    rows = [row for row in table.rows if row.optim in followed]
    if reference is not None and reference.optim not in followed:
        rows = [replace(row, verdict="") for row in rows]
    return replace(table, rows=rows, comparison=replace(table.comparison, contenders=contenders))


def claims_grid(verdicts: Sequence[Verdict], others: Mapping[str, Sequence[str]]) -> Grid:
    """Show each claim with its verdict and evidence, and what others found, by the claim's id."""
    rows = [
        {
            "verdict": v.verdict,
            "claim": v.claim,
            "source": v.source,
            "evidence": v.evidence or NONE,
            "what others found": ". ".join(others.get(v.id, ())) or NONE,
            "rule": v.rule,
        }
        for v in verdicts
    ]
    return Grid("Claims of the paper and its critics", pd.DataFrame(rows))
