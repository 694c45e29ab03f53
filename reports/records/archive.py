"""Archives: many run records in one text file, a line a run, small enough to commit.

A line holds the run's unchanged summary and its measurements of the splits train, val and test, with six significant
digits; learning rates and timings by the step are left out. Values that are not finite, which JSON does not know, are
texts ("nan"). The lines are sorted by the runs' settings, so that the same records give the same bytes, and a new run
adds one line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from recipes.files import finite, safe_name

SUFFIX = ".runs.jsonl"
MARK = "#"  # separates an archive's path from a run in it, where a record has its folder
SPLITS = ("train", "val", "test")
Measured = dict[tuple[str, str], tuple[list[int], list[float], list[float]]]  # (split, name): steps, values, seconds


def line_of(summary: dict[str, Any], measured: Measured) -> str:
    """Write one run as a line."""
    series = [
        [split, name, steps, [_six(value) for value in values], [_tenth(second) for second in seconds]]
        for (split, name), (steps, values, seconds) in sorted(measured.items())
        if split in SPLITS
    ]
    content = {"summary": finite(summary), "measured": series}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"


def pack(runs: Iterable[tuple[dict[str, Any], Measured]]) -> dict[str, str]:
    """Return the text of an archive for each task, by its file's name.

    Raises:
        ConfigError: a task cannot name a file.
    """
    by_task: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for summary, measured in runs:
        place = tuple(str(summary.get(key)) for key in ("optim", "batch_size", "seed", "lr", "weight_decay", "run_id"))
        by_task.setdefault(safe_name(summary["task"], "task"), []).append((place, line_of(summary, measured)))
    return {f"{task}{SUFFIX}": "".join(line for _, line in sorted(lines)) for task, lines in sorted(by_task.items())}


def is_archived(path: str) -> bool:
    """Say whether a record's path names a run inside an archive."""
    return SUFFIX + MARK in path


def entries(path: Path) -> list[tuple[str, dict[str, Any] | None]]:
    """Return the path and the content of each run in an archive; None for a line that cannot be read."""
    return _entries(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=64)  # the records are read first, their measurements later
def _entries(path: str, _: int) -> list[tuple[str, dict[str, Any] | None]]:
    runs: list[tuple[str, dict[str, Any] | None]] = []
    used: set[str] = set()
    for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}{MARK}line {number}"
        try:
            content = json.loads(line)
            content["measured"] = [_series(item) for item in content["measured"]]
            named = "/".join(str(content["summary"].get(key))[:80] for key in ("task", "optim", "run_id"))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            runs.append((place, None))
            continue
        if named not in used:  # a repeated name gets its line number
            used.add(named)
            place = f"{path}{MARK}{named}"
        runs.append((place, content))
    return runs


def _series(item: Any) -> tuple[str, str, list[int], list[float], list[float]]:
    """Check one series of measurements; raises ValueError or TypeError if it is invalid."""
    split, name, steps, values, seconds = item
    if not (isinstance(split, str) and isinstance(name, str) and len(steps) == len(values) == len(seconds)):
        raise ValueError("no series")
    if any(isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 2**53 for step in steps):
        raise ValueError("no steps")
    return split, name, list(steps), [_real(value) for value in values], [_real(second) for second in seconds]


def _real(value: float | str | None) -> float:
    return math.nan if value is None else float(value)


def summary_of(path: str) -> dict[str, Any]:
    """Return the summary of a run inside an archive."""
    return _content(path)["summary"]


def measured_of(path: str) -> Measured:
    """Return the measurements of a run inside an archive."""
    return {(series[0], series[1]): (series[2], series[3], series[4]) for series in _content(path)["measured"]}


def version(path: str) -> int:
    """Return when the archive of a run was last changed, in nanoseconds."""
    return Path(_archive_of(path)).stat().st_mtime_ns


def _archive_of(path: str) -> str:
    """Return the path of the archive that holds a run; its folders may have the mark in their names."""
    return path.partition(SUFFIX + MARK)[0] + SUFFIX


def _content(path: str) -> dict[str, Any]:
    return _index(_archive_of(path), version(path))[path]


@lru_cache(maxsize=64)
def _index(path: str, changed: int) -> dict[str, dict[str, Any]]:
    return {name: content for name, content in _entries(path, changed) if content is not None}


def _six(value: float) -> float | str:
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def _tenth(seconds: float) -> float | str:
    return round(seconds, 1) if math.isfinite(seconds) else str(seconds)
