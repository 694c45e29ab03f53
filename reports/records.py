"""Read run records: every summary of a folder tree as one table, and the measurements of a run on demand.

A run record is a folder with `summary.json` (what the run was and how it ended) and `metrics.jsonl` (a line a
measurement). Anything else found on the way, torn by a killed process or written by another program, is named
as a problem and passed over: one bad file never hides the good ones.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports import archive

STATUSES = ("completed", "diverged", "failed", "interrupted")
GOALS = ("max", "min")
TEXT = ["run_id", "status", "task", "optim", "variant", "scale", "conditions", "metric", "goal", "tuned", "cause"]
TEXT += ["git_commit"]
FACTS = [
    "model",
    "model_args",
    "data",
    "data_fingerprint",
    "augment",
    "optim_args",
]  # texts or structures, read as one text
WHOLE = ["seed", "steps", "batch_size", "num_parameters", "optimizer_state_bytes", "diverged_step"]
REAL = ["final", "best", "test", "lr", "weight_decay", "steps_per_second", "optimizer_step_ms"]
ORDER = ["task", "scale", "optim", "variant", "optim_args", "lr", "weight_decay", "seed", "run_id"]
NOT_RECORDS = {"checkpoint", "wandb"}  # folders inside a record, never looked into


@dataclass(frozen=True)
class Records:
    """What a folder tree holds: `runs`, a row a run, and `problems`, a line a file that could not be used."""

    runs: pd.DataFrame
    problems: list[str]


def read_records(folders: Iterable[str | Path]) -> Records:
    """Read every run record at any depth under `folders`, those inside archives (*.runs.jsonl) too.

    `runs` has a column for each key of TEXT, FACTS, WHOLE and REAL (absent, null or empty: missing) and `path`,
    the folder of the record or its place in an archive. Rows are sorted by what the runs are, so the order in which
    files are met does not matter.
    A run found twice, as in two copies of one folder, is counted once; its most complete copy is kept.
    """
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for place in _places(folders):
        if place.name.endswith(archive.SUFFIX):
            found, torn = _read_archive(place)
            rows += found
            problems += torn
            continue
        try:
            rows.append({**_read_summary(place / "summary.json"), "path": str(place)})
        except ValueError as error:
            problems.append(f"{place / 'summary.json'}: {error}: left out")
    runs = pd.DataFrame(rows, columns=[*TEXT, *FACTS, *WHOLE, *REAL, "path"])
    runs = runs.astype({**dict.fromkeys(TEXT + FACTS, "string"), **dict.fromkeys(WHOLE, "Int64")})
    runs = runs.astype({**dict.fromkeys(REAL, "float64"), "path": "string"})
    completeness = runs["status"].map({status: rank for rank, status in enumerate(STATUSES)})
    runs = runs.assign(completeness=completeness).sort_values([*ORDER, "completeness", "path"])
    copies = runs["run_id"].notna() & runs.duplicated(["task", "scale", "optim", "run_id"])
    problems += [f"{path}: a copy of a run that is read already: left out" for path in runs.loc[copies, "path"]]
    return Records(runs[~copies].drop(columns="completeness").reset_index(drop=True), sorted(problems))


def read_metrics(folder: str | Path, split: str | None = None, name: str | None = None) -> pd.DataFrame:
    """Read the measurements of one run: columns step, split, name, value (may be nan) and seconds.

    Lines that are not a whole measurement, such as the last one of a killed run, are passed over. Where a run
    that went on from its checkpoint measured a step again, the later measurement counts.
    """
    found: dict[tuple[int, str, str], tuple[float, float]] = {}
    if archive.is_archived(str(folder)):
        for (its_split, its_name), series in archive.measured_of(str(folder)).items():
            if split in (None, its_split) and name in (None, its_name):
                steps = zip(*series, strict=True)
                found.update({(step, its_split, its_name): (value, at) for step, value, at in steps})
    path = Path(folder) / "metrics.jsonl"
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if split is not None and split not in line:  # cheap, before the parsing: most lines are others
                    continue
                try:
                    item = json.loads(line)
                    key = (int(item["step"]), str(item["split"]), str(item["name"]))
                    numbers = _number(item["value"]), _number(item["seconds"])
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    continue
                if split in (None, key[1]) and name in (None, key[2]):
                    found[key] = numbers
    rows = [(*key, *numbers) for key, numbers in found.items()]
    types = {"step": "int64", "split": "string", "name": "string", "value": "float64", "seconds": "float64"}
    measured = pd.DataFrame(rows, columns=[*types]).astype(types)
    return measured.sort_values(["split", "name", "step"], ignore_index=True)


def raw_record(path: str | Path) -> tuple[dict[str, Any], archive.Measured]:
    """Return a record's summary as it stands in its file, and all of its measurements: what an archive keeps."""
    if archive.is_archived(str(path)):
        return archive.summary_of(str(path)), archive.measured_of(str(path))
    measured: archive.Measured = {}
    for key, series in read_metrics(path).groupby(["split", "name"]):
        columns = (series[column].tolist() for column in ("step", "value", "seconds"))
        measured[(str(key[0]), str(key[1]))] = next(columns), next(columns), next(columns)
    return json.loads((Path(path) / "summary.json").read_text(encoding="utf-8")), measured


def _places(tops: Iterable[str | Path]) -> Iterator[Path]:
    """Yield each folder that holds, or should hold, a summary, and each archive; once, however the tops overlap."""
    seen: set[str] = set()
    for place in _walk(tops):
        if (real := os.path.realpath(place)) not in seen:
            seen.add(real)
            yield place


def _walk(tops: Iterable[str | Path]) -> Iterator[Path]:
    for top in tops:
        if str(top).endswith(archive.SUFFIX) and Path(top).is_file():
            yield Path(top)
        for folder, inner, files in os.walk(top):
            inner[:] = sorted(name for name in inner if name not in NOT_RECORDS and not name.startswith("."))
            if "summary.json" in files or "metrics.jsonl" in files:
                yield Path(folder)
            yield from (Path(folder) / name for name in sorted(files) if name.endswith(archive.SUFFIX))


def _read_archive(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the summaries in an archive, and what was wrong with it."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    try:
        found = archive.entries(path)
    except (OSError, ValueError) as error:
        return [], [f"{path}: cannot be read ({error}): left out"]
    for place, content in found:
        try:
            if content is None:
                raise ValueError("torn, not whole JSON")
            rows.append({**_checked_summary(content["summary"]), "path": place})
        except ValueError as error:
            problems.append(f"{place}: {error}: left out")
    return rows, problems


def _read_summary(path: Path) -> dict[str, Any]:
    """Read one summary into plain values; raises ValueError with one line that says what is wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError("missing beside metrics.jsonl") from None
    except OSError as error:
        raise ValueError(error.strerror or "cannot be read") from None
    except (ValueError, RecursionError):
        raise ValueError("torn, not whole JSON") from None
    return _checked_summary(content)


def _checked_summary(content: Any) -> dict[str, Any]:
    """Turn a summary into plain values; raises ValueError with one line that says what is wrong."""
    if not isinstance(content, dict) or not {"status", "task", "optim"} <= content.keys():
        raise ValueError("not the summary of a run (no status, task and optim)")
    row: dict[str, Any] = {}
    for key in TEXT:
        row[key] = _checked(content, key, str, "text") or None
    for key in FACTS:
        row[key] = _fact(content.get(key)) or None
    for key in WHOLE:
        row[key] = _whole(_checked(content, key, (int, float), "a number"), key)
    for key in REAL:
        value = _checked(content, key, (int, float), "a number")
        row[key] = _number(value)
    if row["status"] not in STATUSES:
        raise ValueError(f"status is {row['status']!r}, not one of {', '.join(STATUSES)}")
    row["num_parameters"] = row["num_parameters"] or None  # a run that ended before it had a model
    if row["task"] is None or row["optim"] is None:
        raise ValueError("task or optim is empty")
    if row["status"] == "completed" and (row["goal"] not in GOALS or not math.isfinite(row["final"])):
        raise ValueError("status is completed, but there is no goal (max or min) or no finite final value")
    return row


def _checked(content: dict[str, Any], key: str, kind: type | tuple[type, ...], words: str) -> Any:
    value = content.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ValueError(f"{key} is {str(value)[:40]!r}, not {words}")
    return value


def _fact(value: Any) -> str:
    """Write a text, or a structure such as {"depth": 4, "attention": []}, as one text: attention none, depth 4."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(value[key]) or 'none'}" for key in sorted(value))
    if isinstance(value, list):
        return " ".join(map(_fact, value))
    return "" if value is None else str(value)


def _whole(value: float | None, key: str) -> int | None:
    if value is None:
        return None
    if not math.isfinite(value) or value != int(value) or abs(value) >= 2**63:
        raise ValueError(f"{key} is {value}, not a whole number")
    return int(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def missing_folders(folders: Sequence[str | Path]) -> list[str]:
    """Name those of `folders` that are neither a folder nor an archive."""
    archives = [folder for folder in folders if str(folder).endswith(archive.SUFFIX) and Path(folder).is_file()]
    return [str(folder) for folder in folders if not Path(folder).is_dir() and folder not in archives]
