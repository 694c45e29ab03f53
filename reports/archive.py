"""Many run records in one text file, a line a run: what is committed of measurements that took hours.

A line holds the run's summary as it was and its measurements of the splits train, val and test, with six significant
digits; learning rates and timings by the step are left out. The lines are sorted by what the runs are, so that the
same records give the same bytes, and a new run changes one line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

SUFFIX = ".runs.jsonl"
MARK = "#"  # between an archive's path and the run in it, where a record's folder would stand
SPLITS = ("train", "val", "test")
Measured = dict[tuple[str, str], tuple[list[int], list[float], list[float]]]  # (split, name): steps, values, seconds


def line_of(summary: dict[str, Any], measured: Measured) -> str:
    """Write one run as a line."""
    series = [
        [split, name, steps, [_six(value) for value in values], [round(second, 1) for second in seconds]]
        for (split, name), (steps, values, seconds) in sorted(measured.items())
        if split in SPLITS
    ]
    return json.dumps({"summary": summary, "measured": series}, sort_keys=True, separators=(",", ":")) + "\n"


def pack(runs: Iterable[tuple[dict[str, Any], Measured]]) -> dict[str, str]:
    """Return the text of an archive for each task, by its file's name."""
    by_task: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for summary, measured in runs:
        place = tuple(str(summary.get(key)) for key in ("optim", "batch_size", "seed", "lr", "weight_decay", "run_id"))
        by_task.setdefault(str(summary["task"]), []).append((place, line_of(summary, measured)))
    return {f"{task}{SUFFIX}": "".join(line for _, line in sorted(lines)) for task, lines in sorted(by_task.items())}


def is_archived(path: str) -> bool:
    """Say whether a record's path names a run inside an archive."""
    return SUFFIX + MARK in path


def entries(path: Path) -> list[tuple[str, dict[str, Any] | None]]:
    """Return the path and the content of each run in an archive; None for a line that cannot be read."""
    found: list[tuple[str, dict[str, Any] | None]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            content = json.loads(line)
            content["summary"]["task"], content["measured"]
        except (ValueError, TypeError, KeyError):
            found.append((f"{path}{MARK}line {number}", None))
            continue
        summary = content["summary"]
        found.append((f"{path}{MARK}{summary['task']}/{summary.get('optim')}/{summary.get('run_id')}", content))
    return found


def summary_of(path: str) -> dict[str, Any]:
    """Return the summary of a run inside an archive."""
    return _content(path)["summary"]


def measured_of(path: str) -> Measured:
    """Return the measurements of a run inside an archive."""
    return {(series[0], series[1]): (series[2], series[3], series[4]) for series in _content(path)["measured"]}


def _content(path: str) -> dict[str, Any]:
    file = Path(path.partition(MARK)[0])
    return _index(str(file), file.stat().st_mtime_ns)[path]


@lru_cache(maxsize=64)
def _index(path: str, _: int) -> dict[str, dict[str, Any]]:
    return {name: content for name, content in entries(Path(path)) if content is not None}


def _six(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
