"""Read the timings of scripts/speed.py: steps per second of optimizers that took turns in one process.

A speed is only compared with the reference's for the same kind of step (fused, foreach, loop).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from reports.records.folders import walk

SUFFIX = ".speed.json"
NUMBERS = ["ratio", "low", "high", "steps_per_second", "optimizer_step_ms", "state_bytes"]
SHARED = ["task", "scale", "model", "batch_size", "reference"]
COLUMNS = [*SHARED, "optim", "step", *NUMBERS, "trained_parameters", "rounds", "processor", "path"]
STEPS = ("fused", "foreach", "loop", "plain")  # kinds of step, the fastest first


def read_speeds(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Read every *.speed.json under `folders`: a row an optimizer and kind of step, columns COLUMNS.

    `ratio`, `low` and `high` are to the reference's speed with the same kind of step, and nan if it has none.
    An unreadable file is skipped: a table then shows no ratio.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(folder / name for folder, names in walk(folders) for name in names if name.endswith(SUFFIX)):
        try:
            rows += _rows(json.loads(path.read_text(encoding="utf-8")), path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    common = {key: content[key] for key in SHARED}
    common["trained_parameters"] = float(content.get("trained_parameters") or math.nan)  # older files have none
    common |= {"rounds": int(content.get("rounds", 0)), "processor": str(content["processor"]), "path": str(path)}
    if not all(isinstance(common[key], str) for key in ("task", "reference")):
        raise TypeError("no names")
    rows = []
    for label, figures in content["optimizers"].items():
        optim, step = _kind(label)
        numbers = {key: math.nan if figures[key] is None else float(figures[key]) for key in NUMBERS}
        against = figures.get("against", content["reference"])
        if _kind(str(against)) != (common["reference"], step):  # different kinds of step are not compared
            numbers |= dict.fromkeys(("ratio", "low", "high"), math.nan)
        rows.append({**common, "optim": optim, "step": step, **numbers})
    return rows


def _kind(label: str) -> tuple[str, str]:
    """Return optimizer and kind of step: "adamw (fused)"; a name alone is a step in plain PyTorch."""
    name, _, step = label.removesuffix(")").rpartition(" (")
    return (name, step) if name and step in STEPS else (label, "plain")
