"""What a run expects (conf/expected): written from our records for scale=embedded, from the paper's tables for its own.

A run says at its end how its figure compares (recipes/runs/expectation.py). conf/expected/gpu.yaml is written by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recipes.figure_format import unit
from reports.protocol import NEEDED
from reports.records.reader import DESCRIPTIONS, raw_record
from reports.results import Results
from reports.statistics.intervals import prediction_interval
from reports.statistics.selection import Contender
from reports.tables.comparison import FIELD, Row, Table
from reports.tables.paper_comparison import published_figures

SCALE = "embedded"  # that of our records
FIGURES = 6  # significant ones, of a mean and the ends of an interval
MEASURED = f"""\
# python run.py task=vit_b16 optim=lion
# What runs at scale=embedded expect: for each task and its conditions (the hash in a run's summary) the chosen setting
# of each optimizer, the mean of its fresh seeds, and the ends of the 95% prediction interval of one more seed.
# Only of optimizers with {NEEDED}. Written by make reports from reports/published/records.
"""
PRINTED = """\
# python run.py task=vit_b16 optim=lion scale=paper dry_run=true
# What the paper prints for its settings; behind a task's name, the augmentation that it was run with.
# Written by make reports from reports/paper and its comparisons.yaml.
"""


def files(root: Path, results: Results) -> dict[Path, str]:
    """Return the files under a checkout's conf/expected that are written, with their text."""
    folder = root / "conf" / "expected"
    measured = MEASURED + _text(expected(results.tables), depth=4)
    printed = PRINTED + _text(published_figures(), depth=2)
    return {folder / f"{SCALE}.yaml": measured, folder / "paper.yaml": printed}


def expected(tables: Sequence[Table]) -> dict[str, Any]:
    """Return what further seeds of each chosen setting are expected to reach, by task and conditions."""
    of_tasks: dict[str, Any] = {}
    for table in tables:
        comparison = table.comparison
        if comparison.scale != SCALE or comparison.conditions is None or table.part not in ("", FIELD):
            continue
        contenders = {contender.label: contender for contender in comparison.contenders}
        rows = {row.optim: _setting(row, contenders[row.optim], table) for row in table.rows if not row.untuned}
        if rows:
            described = {"metric": comparison.metric, "goal": comparison.goal, "split": table.split}
            of_conditions = of_tasks.setdefault(comparison.task, {})
            of_conditions.setdefault(comparison.conditions, described | {"optimizers": {}})["optimizers"] |= rows
    return of_tasks


def _setting(row: Row, contender: Contender, table: Table) -> dict[str, Any]:
    values = contender.by_seed("test" if table.split == "test" else "final")
    low, high = prediction_interval(values)
    if values.min() >= 0:  # a loss or a distance has no negative values
        low = max(low, 0.0)
    if unit(table.comparison.goal, values).sign:  # and a share none above one
        high = min(high, 1.0)
    run = contender.at_choice().iloc[0]
    arguments = raw_record(run["path"])[0]["optim_args"]
    return {
        "lr": row.lr,
        "weight_decay": row.weight_decay,
        "optim_class": str(run["optim_class"]),
        "optim_args": {key: value for key, value in arguments.items() if key not in DESCRIPTIONS},
        "seeds": int(values.count()),
        "mean": _rounded(values.mean()),
        "low": _rounded(low),
        "high": _rounded(high),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{FIGURES}g}")


def _text(content: Mapping[str, Any], depth: int, indent: str = "") -> str:
    """Write nested mappings as YAML: `depth` levels over lines, and what is deeper in one line."""
    text = ""
    for key, value in content.items():
        if depth > 1 and isinstance(value, dict):
            text += f"{indent}{_in_a_line(key)}:\n{_text(value, depth - 1, indent + '  ')}"
        else:
            text += f"{indent}{_in_a_line(key)}: {_in_a_line(value)}\n"
    return text


def _in_a_line(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).splitlines()[0]
