"""Read `metrics.jsonl`, the measurements of a run, one JSON object a line.

This module imports no other package of the project, so that reports can use it without the training code.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST_STEP = 2**53  # above it, a float64 does not hold every integer


def read_metrics(path: Path, split: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
    """Return the measurements in a file, in its order.

    A line that is not a whole measurement is skipped, and those after it are read: a killed process leaves its last
    line torn, a damaged disk any line.

    Args:
        path: of the file; one that does not exist has no measurements.
        split: only measurements of this split.
        name: only measurements of this name.

    Returns:
        Dictionaries with `step` (int), `split`, `name`, `value` (float, may be nan or infinite) and `seconds` (float
        since the start of the run, nan where the line has none).
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as lines:
        return list(_measurements(lines, split, name))


def _measurements(lines: Iterator[str], split: str | None, name: str | None) -> Iterator[dict[str, Any]]:
    # Parsing is most of the work, and most lines are of other splits. JSON may escape other characters than these.
    needed = split if split is not None and split.isidentifier() and split.isascii() else ""
    for line in lines:
        if needed not in line:
            continue
        try:
            measurement = _parse(line)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
        if split in (None, measurement["split"]) and name in (None, measurement["name"]):
            yield measurement


def _parse(line: str) -> dict[str, Any]:
    """Return the measurement in a line; raises one of several exceptions where it holds none."""
    item = json.loads(line)
    step, split, name, value = item["step"], item["split"], item["name"], item["value"]
    if isinstance(step, bool) or int(step) != step or not 0 <= step < LARGEST_STEP:
        raise ValueError("step is not a count")
    if not isinstance(split, str) or not isinstance(name, str):
        raise TypeError("split or name is not a text")
    if value is None:  # JSON has no nan and no infinity: {"value": null, "nonfinite": "inf"}
        value = float(item.get("nonfinite", "nan"))
    numbers = {"value": _number(value), "seconds": _number(item["seconds"])}
    return {"step": int(step), "split": split, "name": name, **numbers}


def _number(value: Any) -> float:
    """Return a number as it is, so that an integer that is written again gives the same text."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    float(value)  # raises OverflowError for an integer that no float64 comes near
    return value
