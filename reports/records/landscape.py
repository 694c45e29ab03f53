"""Read the measurements of scripts/landscape.py: training loss under noise on the weights of chosen runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from reports.records.folders import walk

SUFFIX = ".landscape.json"
COLUMNS = ["task", "optim", "seed", "run_id", "loss", "bound", "noise", "relative", "perturbed_loss"]


def read_landscape(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Read every *.landscape.json under `folders`: a row a run and noise level, columns COLUMNS."""
    rows = []
    for path in sorted(folder / name for folder, names in walk(folders) for name in names if name.endswith(SUFFIX)):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))["rows"]
            rows += [{key: row[key] for key in COLUMNS} for row in content]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return pd.DataFrame(rows, columns=COLUMNS)
