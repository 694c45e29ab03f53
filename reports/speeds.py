"""Read what scripts/speed.py timed: steps per second of optimizers that took turns in one process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

SUFFIX = ".speed.json"
NUMBERS = ["ratio", "low", "high", "steps_per_second", "optimizer_step_ms", "state_bytes"]
COLUMNS = ["task", "scale", "model", "batch_size", "reference", "optim", *NUMBERS, "processor", "path"]


def read_speeds(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Read every *.speed.json under `folders`: a row an optimizer, columns COLUMNS; `ratio` is to the reference's.

    A file that cannot be read is passed over: a table then shows no ratio.
    """
    rows = []
    for path in sorted(_files(folders)):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            common = {key: content[key] for key in COLUMNS[:5]}
            for optim, figures in content["optimizers"].items():
                numbers = {key: float(figures[key]) for key in NUMBERS}
                rows.append({**common, "optim": optim, **numbers, "processor": content["processor"], "path": str(path)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return pd.DataFrame(rows, columns=COLUMNS)


def _files(folders: Iterable[str | Path]) -> Iterable[Path]:
    for top in folders:
        for folder, _, names in os.walk(top):
            yield from (Path(folder) / name for name in names if name.endswith(SUFFIX))
