"""Read what scripts/landscape.py measured: training loss under noise on the weights of chosen runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

SUFFIX = ".landscape.json"
COLUMNS = ["task", "optim", "seed", "run_id", "loss", "bound", "noise", "relative", "perturbed_loss"]


def read_landscape(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Read every *.landscape.json under `folders`: a row a run and noise level, columns COLUMNS."""
    rows = []
    for folder in folders:
        for path in sorted(Path(folder).rglob(f"*{SUFFIX}")):
            try:
                rows += [{key: row[key] for key in COLUMNS} for row in json.loads(path.read_text())["rows"]]
            except (OSError, ValueError, KeyError, TypeError):
                continue
    return pd.DataFrame(rows, columns=COLUMNS)
