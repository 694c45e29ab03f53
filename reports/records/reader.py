"""Read run records: every summary of a folder tree as one table, and the measurements of a run on demand.

A run record is a folder with `summary.json` (settings and outcome) and `metrics.jsonl` (a line a measurement). Invalid
files, incomplete or written by another program, are reported as problems and skipped.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipes import metrics_file
from recipes.errors import ConfigError
from recipes.files import safe_name
from reports.records import archive
from reports.records.folders import walk

STATUSES = ("completed", "diverged", "failed", "interrupted")
GOALS = ("max", "min")
TEXT = ["run_id", "status", "task", "optim", "scale", "conditions", "metric", "goal", "tuned", "cause", "git_commit"]
TEXT += ["schedule"]
NAMES = ("task", "optim", "run_id")  # used as names of folders and files
FACTS = [
    "model",
    "model_args",
    "data",
    "data_fingerprint",
    "augment",
    "optim_args",
]  # texts or structures, converted to one text
WHOLE = ["seed", "steps", "warmup_steps", "batch_size", "num_parameters", "optimizer_state_bytes", "diverged_step"]
REAL = ["final", "best", "test", "lr", "weight_decay", "steps_per_second", "optimizer_step_ms"]
ORDER = ["task", "scale", "optim", "optim_class", "optim_args", "lr", "weight_decay", "seed", "run_id"]
LONGEST = 10_000  # characters of a text
DESCRIPTIONS = frozenset({"refuses_shards"})  # texts among the arguments in older records
Measured = dict[tuple[int, str, str], tuple[float, float]]  # (step, split, name): value, seconds
WORDS = ("none", "True", "False", "nan", "inf")  # unquoted, these mean something else
# Classes of optimizers in the texts of records without `optim_class`.
CLASSES = {
    "Optax's amsgrad": "baselines.AMSGrad",
    "Optax's nadamw": "baselines.NAdamW",
    "SGDW": "baselines.SGDW",
    "sign of one momentum": "lion.Lion",
    "timm AdaBelief": "timm.optim.AdaBelief",
    "timm AdafactorBigVision": "timm.optim.AdafactorBigVision",
}


@dataclass(frozen=True)
class Records:
    """The records of a folder tree: `runs`, a row a run, and `problems`, a line for each unusable file."""

    runs: pd.DataFrame
    problems: list[str]


def read_records(folders: Iterable[str | Path]) -> Records:
    """Read every run record at any depth under `folders`, those inside archives (*.runs.jsonl) too.

    `runs` has a column for each key of TEXT, FACTS, WHOLE and REAL (absent, null or empty: missing), `optim_class`, the
    class of the optimizer that ran, and `path`, the folder of the record or its place in an archive. Rows are sorted
    by settings, independent of the order of files. A run that occurs twice, as in two copies of one folder, is counted
    once; its most complete copy is kept.
    """
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for place in _places(folders, problems):
        if place.name.endswith(archive.SUFFIX) and place.is_file():
            archived, damaged = _read_archive(place)
            rows += archived
            problems += damaged
            continue
        try:
            rows.append({**_read_summary(place / "summary.json"), "path": str(place)})
        except ValueError as error:
            problems.append(f"{place / 'summary.json'}: {error}: left out")
            continue
        if reason := _unreadable(place / "metrics.jsonl"):
            problems.append(f"{place / 'metrics.jsonl'}: {reason}: the run is shown without its measurements")
    texts = [*TEXT, "optim_class", *FACTS]
    runs = pd.DataFrame(rows, columns=[*texts, *WHOLE, *REAL, "path"])
    runs = runs.astype({**dict.fromkeys(texts, "string"), **dict.fromkeys(WHOLE, "Int64")})
    runs = runs.astype({**dict.fromkeys(REAL, "float64"), "path": "string"})
    completeness = runs["status"].map({status: rank for rank, status in enumerate(STATUSES)})
    runs = runs.assign(completeness=completeness).sort_values([*ORDER, "completeness", "path"])
    copies = runs["run_id"].notna() & runs.duplicated(["task", "scale", "optim", "run_id"])
    problems += [f"{path}: a copy of a run that is read already: left out" for path in runs.loc[copies, "path"]]
    return Records(runs[~copies].drop(columns="completeness").reset_index(drop=True), sorted(problems))


def read_metrics(folder: str | Path, split: str | None = None, name: str | None = None) -> pd.DataFrame:
    """Read the measurements of one run: columns step, split, name, value (may be nan) and seconds.

    Lines that are not a whole measurement are skipped (`recipes.metrics_file`). If a resumed run measured a
    step again, the later measurement counts.
    """
    if archive.is_archived(str(folder)):
        return _archived_metrics(str(folder), archive.version(str(folder)), split, name).copy()
    measured: Measured = {}
    path = Path(folder) / "metrics.jsonl"
    if not _unreadable(path):
        for line in metrics_file.read_metrics(path, split, name):
            measured[line["step"], line["split"], line["name"]] = line["value"], line["seconds"]
    return _metrics_table(measured)


@lru_cache(maxsize=4096)  # several tables, figures and claims read the same curves
def _archived_metrics(run: str, _: int, split: str | None, name: str | None) -> pd.DataFrame:
    measured: Measured = {}
    for (its_split, its_name), series in archive.measured_of(run).items():
        if split in (None, its_split) and name in (None, its_name):
            steps = zip(*series, strict=True)
            measured.update({(step, its_split, its_name): (value, at) for step, value, at in steps})
    return _metrics_table(measured)


def _metrics_table(measured: Measured) -> pd.DataFrame:
    """Column by column: pandas is slow at rows of numbers and texts."""
    keys = sorted(measured, key=lambda key: (key[1], key[2], key[0]))
    columns = {
        "step": np.array([step for step, _, _ in keys], dtype="int64"),
        "split": pd.array([split for _, split, _ in keys], dtype="string"),
        "name": pd.array([name for _, _, name in keys], dtype="string"),
        "value": np.array([measured[key][0] for key in keys], dtype="float64"),
        "seconds": np.array([measured[key][1] for key in keys], dtype="float64"),
    }
    return pd.DataFrame(columns)


def _unreadable(path: Path) -> str | None:
    """Return why an existing file cannot be read, or None."""
    try:
        if not path.exists():
            return None
        if not path.is_file():
            return "no file"
        path.open("rb").close()
    except OSError as error:
        return error.strerror or "cannot be read"
    return None


def raw_record(path: str | Path) -> tuple[dict[str, Any], archive.Measured]:
    """Return a record's unchanged summary and all of its measurements, for an archive."""
    if archive.is_archived(str(path)):
        return archive.summary_of(str(path)), archive.measured_of(str(path))
    measured: archive.Measured = {}
    for key, series in read_metrics(path).groupby(["split", "name"]):
        columns = (series[column].tolist() for column in ("step", "value", "seconds"))
        measured[(str(key[0]), str(key[1]))] = next(columns), next(columns), next(columns)
    return json.loads((Path(path) / "summary.json").read_text(encoding="utf-8")), measured


def _places(tops: Iterable[str | Path], problems: list[str]) -> Iterator[Path]:
    """Yield each folder that has, or should have, a summary, and each archive; once, even if the tops overlap."""
    tops = list(tops)
    seen: set[str] = set()
    for top in tops:
        if str(top).endswith(archive.SUFFIX) and Path(top).is_file():
            seen.add(os.path.realpath(top))
            yield Path(top)
    for folder, files in walk(tops, problems):
        if "summary.json" in files or "metrics.jsonl" in files:
            yield folder
        for path in (folder / name for name in files if name.endswith(archive.SUFFIX)):
            if (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                yield path


def _read_archive(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the summaries in an archive, and its problems."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    try:
        contents = archive.entries(path)
    except (OSError, ValueError) as error:
        return [], [f"{path}: cannot be read ({error}): left out"]
    for place, content in contents:
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
        if path.exists() and not path.is_file():
            raise ValueError("no file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError("missing beside metrics.jsonl") from None
    except UnicodeDecodeError:
        raise ValueError("torn, not whole JSON") from None
    except OSError as error:
        raise ValueError(error.strerror or "cannot be read") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("torn, not whole JSON") from None
    return _checked_summary(content)


def _checked_summary(content: Any) -> dict[str, Any]:
    """Turn a summary into plain values; raises ValueError with one line that says what is wrong."""
    if not isinstance(content, dict) or not {"status", "task", "optim"} <= content.keys():
        raise ValueError("not the summary of a run (no status, task and optim)")
    row: dict[str, Any] = {}
    for key in TEXT:
        row[key] = _text(_checked(content, key, str, "text"), key)
    row["optim_class"] = _class_of(content)
    try:
        for key in FACTS:
            row[key] = _text(_fact(content.get(key)), key)
        row["optim_args"] = _arguments(content.get("optim_args"))
    except RecursionError:
        raise ValueError(f"{key} is nested too deeply") from None
    for key in WHOLE:
        row[key] = _whole(_checked(content, key, (int, float), "a number"), key)
    for key in REAL:
        value = _checked(content, key, (int, float), "a number")
        try:
            row[key] = _number(value)
        except OverflowError:
            raise ValueError(f"{key} is too large a number") from None
    if row["status"] not in STATUSES:
        raise ValueError(f"status is {row['status']!r}, not one of {', '.join(STATUSES)}")
    for key in NAMES:
        if row[key] is None and key != "run_id":
            raise ValueError(f"{key} is empty")
        try:
            row[key] = row[key] and safe_name(row[key], key)
        except ConfigError as error:
            raise ValueError(str(error).partition(";")[0]) from None
    for key in ("lr", "weight_decay"):
        if math.isinf(row[key]):
            raise ValueError(f"{key} is {row[key]}, not a finite number")
    row["num_parameters"] = row["num_parameters"] or None  # a run that ended before it had a model
    if row["status"] == "completed" and (row["goal"] not in GOALS or not math.isfinite(row["final"])):
        raise ValueError("status is completed, but there is no goal (max or min) or no finite final value")
    return row


def _checked(content: dict[str, Any], key: str, kind: type | tuple[type, ...], words: str) -> Any:
    value = content.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ValueError(f"{key} is {str(value)[:40]!r}, not {words}")
    return value


def _text(value: str | None, key: str) -> str | None:
    """Return a text that can be written to a file, or None for an empty one."""
    if value and len(value) > LONGEST:
        raise ValueError(f"{key} is a text of {len(value):,} characters")
    return (value or "").encode(errors="replace").decode() or None  # JSON can contain unpaired surrogates


def _class_of(content: dict[str, Any]) -> str | None:
    """Return the class of the optimizer that ran.

    Records without it have a text that describes the optimizer; only the class with which the text begins is used.
    """
    named = _checked(content, "optim_class", str, "text") or _checked(content, "variant", str, "text") or ""
    head = re.split(r"[,:(]", named, maxsplit=1)[0].strip()
    return _text(CLASSES.get(head, head), "variant")


def _arguments(mapping: Any) -> str | None:
    """Write the optimizer's arguments as one text, different ones differently: betas 0.9 0.99, momentum_dtype bfloat16.

    Returns:
        None where the record does not hold them, "" for no arguments.
    """
    if mapping is None:
        return None
    if not isinstance(mapping, dict):
        return _text(_argument(mapping), "optim_args")
    kept = sorted(mapping.keys() - DESCRIPTIONS)
    return _text(", ".join(f"{key} {_argument(mapping[key])}" for key in kept), "optim_args") or ""


def _argument(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} {_argument(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        inner = " ".join(map(_argument, value))
        return inner if len(value) > 1 and not any(isinstance(item, list) for item in value) else f"[{inner}]"
    if isinstance(value, str):
        return value if re.fullmatch(r"[A-Za-z_/][\w./:+-]*", value) and value not in WORDS else json.dumps(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # 0 and 0.0 are the same setting
    return "none" if value is None else str(value)


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
    if not math.isfinite(value) or value != int(value) or not 0 <= value < 2**63:
        raise ValueError(f"{key} is {str(value)[:40]}, not a whole number from 0 to 2^63")
    return int(value)


def _number(value: Any) -> float:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError("no number")
    return math.nan if value is None else float(value)


def missing_folders(folders: Sequence[str | Path]) -> list[str]:
    """Name those of `folders` that are neither a folder nor an archive."""
    archives = [folder for folder in folders if str(folder).endswith(archive.SUFFIX) and Path(folder).is_file()]
    return [str(folder) for folder in folders if not Path(folder).is_dir() and folder not in archives]
