"""The ledger: studies (studies.yaml), a table of runs for each (studies/*.csv), and two public leaderboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from recipes.errors import ConfigError
from reports.evidence import schema

FOLDER = Path(__file__).resolve().parent
SUBJECT, BASELINES = "Lion", ("AdamW", "Adafactor")  # Lion is compared with the first of these that ran
KINDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "lowest": {"rows": dict, "value": float, "within": float},
    "better": {"ours": list, "than": str, "variant": str},
    "ratio": {"axis": str, "between": list},
}
FIELDS: Mapping[str, tuple[type | tuple[type, ...], bool]] = {  # of a study: type, and whether it is required
    "title": (str, True),
    "source": (str, True),
    "licence": (str, True),
    "chosen": (str, True),
    "independent": (bool, True),
    "tuned": (list, True),
    "noise": ((int, float), False),
    "compare": (dict, False),
    "caveats": (str, True),
    "stated": (list, False),
}
TUNABLE = ("lr", "weight_decay", "betas")


@dataclass(frozen=True)
class Run:
    """One published run or table entry; the columns are those of `schema.RUNS`, None or "" if the source does not tell.

    `value` is in the unit of `metric`: None for a run that diverged or whose figure is not published. `lowest` is the
    best value seen during the run, `seeds` how many runs `value` is the mean of, `row` the place in the study's table.
    """

    row: int
    study: str
    source: str
    date: str | None
    domain: str
    task: str
    dataset: str
    model: str
    parameters: str
    variant: str
    optimizer: str
    lr: float | None
    weight_decay: float | None
    beta1: float | None
    beta2: float | None
    batch: int | None
    batch_unit: str | None
    steps: int | None
    length: str
    settings: str
    role: str
    metric: str
    goal: str | None
    split: str
    value: float | None
    lowest: float | None
    seeds: int | None
    note: str

    @property
    def experiment(self) -> tuple[str, str, str, str, str]:
        """What runs of one experiment share: optimizers and their settings are compared within it."""
        return self.task, self.dataset, self.model, self.parameters, self.variant


@dataclass(frozen=True)
class Study:
    """One source of runs, as studies.yaml describes it."""

    name: str
    title: str
    source: str
    licence: str
    chosen: str
    independent: bool
    tuned: tuple[str, ...]
    caveats: str
    runs: tuple[Run, ...]
    noise: float | None = None
    compare: Mapping[str, str] | None = None
    stated: tuple[Mapping[str, Any], ...] = ()

    def compared(self) -> list[Run]:
        """Return the runs that pairs are formed from."""
        wanted = dict(self.compare or {})
        return [run for run in self.runs if all(getattr(run, key) == value for key, value in wanted.items())]


@dataclass(frozen=True)
class Ledger:
    """All that was read: studies in the order of studies.yaml, and the rows of the leaderboards."""

    studies: tuple[Study, ...]
    speed_run: tuple[Mapping[str, Any], ...]
    algoperf: tuple[Mapping[str, Any], ...]

    @property
    def runs(self) -> list[Run]:
        """All runs of all studies."""
        return [run for study in self.studies for run in study.runs]


def read(folder: Path = FOLDER) -> Ledger:
    """Read and check the ledger.

    Raises:
        ConfigError: a file or a row is invalid; the message names it.
    """
    path = folder / "studies.yaml"
    entries = _entries(path)
    tables = sorted((folder / "studies").glob("*.csv"))
    for table in tables:
        if table.stem not in entries:
            raise ConfigError(f"{table}: a table of a study that {path} lacks; known: {', '.join(entries)}")
    studies = tuple(_study(folder, name, entry, entries) for name, entry in entries.items())
    boards = [
        tuple(values for _, values in schema.read_rows(folder / f"{name}.csv", columns))
        for name, columns in (("speed_run", schema.SPEED_RUN), ("algoperf", schema.ALGOPERF))
    ]
    return Ledger(studies, *boards)


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        ConfigError: it is missing or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an invalid date
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: not YAML ({getattr(error, 'problem', None) or 'unreadable'})") from None


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    content = read_yaml(path)
    if not content or not isinstance(content, dict) or not all(isinstance(one, dict) for one in content.values()):
        raise ConfigError(f"{path}: expected a mapping of studies, each a mapping of {', '.join(FIELDS)}")
    for name, entry in content.items():
        _check_entry(f"{path}, {name}", entry)
    return {str(name): entry for name, entry in content.items()}


def _check_entry(place: str, entry: Mapping[str, Any]) -> None:
    if unknown := [str(key) for key in entry if key not in FIELDS]:
        raise ConfigError(f"{place}: {', '.join(unknown)} is unknown; known: {', '.join(FIELDS)}")
    for key, (kind, needed) in FIELDS.items():
        if key not in entry:
            if needed:
                raise ConfigError(f"{place}: {key} is missing")
        elif not isinstance(entry[key], kind) or (isinstance(entry[key], bool) and kind is not bool):
            raise ConfigError(f"{place}: {key} is {entry[key]!r}; expected {_kind_words(kind)}")
    if unknown := [str(axis) for axis in entry["tuned"] if axis not in TUNABLE]:
        raise ConfigError(f"{place}: tuned has {', '.join(unknown)}; known: {', '.join(TUNABLE)}")
    if unknown := [str(key) for key in entry.get("compare", {}) if key not in schema.RUNS]:
        raise ConfigError(f"{place}: compare has {', '.join(unknown)}; known: {', '.join(schema.RUNS)}")
    for number, stated in enumerate(entry.get("stated", []), 1):
        _check_stated(f"{place}, stated {number}", stated)


def _check_stated(place: str, stated: Any) -> None:
    if not isinstance(stated, dict) or stated.get("kind") not in KINDS:
        raise ConfigError(f"{place}: expected a mapping with a kind of {', '.join(KINDS)}")
    wanted = {"says": str, "source": str, **KINDS[stated["kind"]]}
    for key, kind in wanted.items():
        if not isinstance(stated.get(key), kind):
            raise ConfigError(f"{place}: {key} is {stated.get(key)!r}; expected {_kind_words(kind)}")
    if unknown := [str(key) for key in stated if key not in {"kind", "note", *wanted}]:
        raise ConfigError(f"{place}: {', '.join(unknown)} is unknown; known: {', '.join(wanted)}, note")


def _kind_words(kind: type | tuple[type, ...]) -> str:
    words = {str: "a text", bool: "true or false", list: "a list", dict: "a mapping", float: "a number"}
    return words.get(kind, "a number") if isinstance(kind, type) else "a number"


def _study(folder: Path, name: str, entry: Mapping[str, Any], study_names: Sequence[str] | Mapping[str, Any]) -> Study:
    path = folder / "studies" / f"{name}.csv"
    runs = tuple(Run(row=row, **values) for row, values in schema.read_rows(path, schema.RUNS))
    rows: dict[Run, int] = {}
    for run in runs:
        _check_run(f"{path}, row {run.row}", run, name, study_names)
        if (first := rows.setdefault(replace(run, row=0), run.row)) != run.row:
            raise ConfigError(f"{path}, row {run.row}: repeats row {first}, and would count twice")
    if not runs:
        raise ConfigError(f"{path}: no rows; a study has at least one run")
    fields = {**entry, "tuned": tuple(entry["tuned"]), "stated": tuple(entry.get("stated", ()))}
    return Study(name=name, runs=runs, **fields)


def _check_run(place: str, run: Run, name: str, study_names: Sequence[str] | Mapping[str, Any]) -> None:
    """Check a row across its cells."""
    if run.study not in study_names:
        raise ConfigError(f"{place}: study {run.study!r} is unknown; known: {', '.join(study_names)}")
    if run.study != name:
        raise ConfigError(f"{place}: study is {run.study!r} in the table of {name!r}")
    if run.batch is not None and run.batch_unit is None:
        raise ConfigError(f"{place}: batch is {run.batch}, but batch_unit is empty; expected {_unit_words()}")
    if run.value is not None:
        for key in ("metric", "goal"):
            if not getattr(run, key):
                raise ConfigError(f"{place}: value is {run.value:g}, but {key} is empty")


def _unit_words() -> str:
    return schema.RUNS["batch_unit"].expected
