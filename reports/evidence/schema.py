"""The columns of the ledger's tables and their checks; an error names the file and row in one line.

Rows are counted as a spreadsheet counts them: the header is row 1. An empty cell means that the source does not say.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.errors import ConfigError

GOALS = ("min", "max")
DOMAINS = ("images", "language", "image_text", "diffusion")
# best of sweep, sweep: the lowest and another row of a sweep; centre: the setting that a sweep changes one coordinate
# of; tuned: the source says that it was tuned, and prints no trials; single: no sweep of this row is published.
ROLES = ("best of sweep", "sweep", "centre", "tuned", "default", "single")
UNIT = r"tokens|examples|sequences of [1-9]\d* tokens"


@dataclass(frozen=True)
class Column:
    """One column: how a cell is read, and a description of what is expected.

    `read` raises ValueError for an invalid cell; it is not called for an empty one.
    """

    read: Callable[[str], Any]
    expected: str
    required: bool = False


def text(required: bool = False) -> Column:
    """A column of texts; an empty one is "" where it may be empty."""
    return Column(str, "a text", required)


def choice(values: Sequence[str], required: bool = False) -> Column:
    """A column of a fixed set of words."""

    def read(cell: str) -> str:
        if cell not in values:
            raise ValueError
        return cell

    return Column(read, f"one of {', '.join(values)}", required)


def matching(pattern: str, expected: str, required: bool = False) -> Column:
    """A column of texts that match a pattern."""

    def read(cell: str) -> str:
        if not re.fullmatch(pattern, cell):
            raise ValueError
        return cell

    return Column(read, expected, required)


def number(expected: str, allowed: Callable[[float], bool] = lambda value: True, required: bool = False) -> Column:
    """A column of finite numbers within a range."""

    def read(cell: str) -> float:
        value = float(cell)
        if not (math.isfinite(value) and allowed(value)):
            raise ValueError
        return value

    return Column(read, expected, required)


def count(required: bool = False) -> Column:
    """A column of whole numbers above 0."""

    def read(cell: str) -> int:
        if (value := int(cell)) < 1:
            raise ValueError
        return value

    return Column(read, "a whole number above 0", required)


POSITIVE = number("a number above 0", lambda value: value > 0)
NOT_NEGATIVE = number("a number of at least 0", lambda value: value >= 0)
BETA = number("a number from 0 to below 1", lambda value: 0 <= value < 1)
DATE = matching(r"\d{4}(-\d\d(-\d\d)?)?", "a date such as 2025-08-27, or a year")

RUNS: Mapping[str, Column] = {
    "study": text(required=True),
    "source": text(required=True),
    "date": DATE,
    "domain": choice(DOMAINS, required=True),
    "task": text(required=True),
    "dataset": text(),
    "model": text(),
    "parameters": text(),
    "variant": text(),
    "optimizer": text(required=True),
    "lr": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "beta1": BETA,
    "beta2": BETA,
    "batch": count(),
    "batch_unit": matching(UNIT, "tokens, examples, or sequences of so many tokens"),
    "steps": count(),
    "length": text(),
    "settings": text(),
    "role": choice(ROLES, required=True),
    "metric": text(),
    "goal": choice(GOALS),
    "split": text(),
    "value": number("a finite number"),
    "lowest": number("a finite number"),
    "seeds": count(),
    "note": text(),
}
SPEED_RUN: Mapping[str, Column] = {
    "number": count(required=True),
    "steps": count(required=True),
    "record": choice(("yes", "no"), required=True),
    "mean_loss": number("a number above 0", lambda value: value > 0, required=True),
    "seeds": count(required=True),
    "marked": choice(("✓", "Ⓧ"), required=True),
    "optimizers": text(),
    "builds_on": text(),
    "settings": text(),
    "date": DATE,
    "log": text(),
    "source": text(required=True),
}
ALGOPERF: Mapping[str, Column] = {
    "leaderboard": text(required=True),
    "ruleset": choice(("external tuning", "self tuning"), required=True),
    "rank": count(),
    "submission": text(required=True),
    "score": number("a number from 0 to 1", lambda value: 0 <= value <= 1),
    "lr": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "beta1": BETA,
    "beta2": BETA,
    "logs": choice(("yes", "no"), required=True),
    "source": text(required=True),
    "note": text(),
}


def read_rows(path: Path, columns: Mapping[str, Column]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row of a CSV file with its number; the header must name `columns`, in this order.

    An empty cell is "" in a column of texts and None in any other.

    Raises:
        ConfigError: the file or a row is invalid.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; every study has a table of this name") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    if "\0" in content:
        raise ConfigError(f"{path}: holds a zero byte; expected UTF-8 text")
    lines = csv.reader(io.StringIO(content, newline=""), strict=True)
    number = 0
    try:
        for number, cells in enumerate(lines, 1):
            if number == 1:
                _check_header(path, cells, columns)
                continue
            if len(cells) != len(columns):
                raise ConfigError(f"{path}, row {number}: {len(cells)} cells; expected {len(columns)} as in the header")
            yield number, _parsed(path, number, cells, columns)
    except csv.Error as error:
        raise ConfigError(f"{path}, row {number + 1}: not CSV ({error})") from None
    if number == 0:
        raise ConfigError(f"{path}: empty; expected the header {','.join(columns)}")


def _check_header(path: Path, names: Sequence[str], columns: Mapping[str, Column]) -> None:
    if list(names) == list(columns):
        return
    missing = [name for name in columns if name not in names]
    unknown = [name for name in names if name not in columns]
    problems = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
    raise ConfigError(
        f"{path}, row 1: the header {' and '.join(problems) or 'has another order'}; see docs/evidence.md"
    )


def _parsed(path: Path, number: int, cells: Sequence[str], columns: Mapping[str, Column]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for cell, (name, column) in zip(cells, columns.items(), strict=True):
        if not cell.strip():
            if column.required:
                raise ConfigError(f"{path}, row {number}: {name} is empty; expected {column.expected}")
            values[name] = "" if column.read is str else None
            continue
        try:
            values[name] = column.read(cell)
        except (ValueError, OverflowError):
            shown = cell if len(cell) <= 40 else f"{cell[:40]}..."
            raise ConfigError(f"{path}, row {number}: {name} is {shown!r}; expected {column.expected}") from None
    return values
