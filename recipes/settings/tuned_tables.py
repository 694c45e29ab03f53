"""Tuned hyperparameters: one table for each task and scale, with a row for each optimizer.

A table is the file conf/tuned/<scale>/<task>.yaml, or the task's section of conf/tuned/<scale>.yaml. `TunedTables`
gives Hydra a row of it as the config `tuned/<scale>/<task>/<optim>`; with an augmentation's name appended
(`lion_randaug_mixup`), a row of that augmentation's section:

    source: "Lion paper, Table 12, ImageNet ViT-B/16"
    adamw: {lr: 3e-3, weight_decay: 0.3}
    lion: {lr: 1e-3, weight_decay: 1.0}
    randaug_mixup:
      source: "Lion paper, Table 12, ImageNet ViT-B/16, RandAug 2 15 + Mixup 0.5"
      lion: {lr: 1e-4, weight_decay: 10.0}

An optimizer without a row takes another's values, as conf/tuned/fallback.yaml says, and `tuned.source` says so.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

TABLES = Path(__file__).resolve().parent.parent.parent / "conf" / "tuned"
GROUP = "tuned"
FALLBACK = "fallback.yaml"
Row = dict[str, Any]


class TunedTables(ConfigSource):
    """The rows of the tables as Hydra configs: `searchpath: ["tuned://"]` in conf/config.yaml."""

    @staticmethod
    def scheme() -> str:
        """The scheme in hydra.searchpath: `tuned://`."""
        return "tuned"

    def load_config(self, config_path: str) -> ConfigResult:
        """The row with this name."""
        row = row_of(config_path)
        if row is None:
            raise ConfigLoadError(f"Config not found : {config_path}")
        return ConfigResult(self.provider, f"{self.scheme()}://", OmegaConf.create(row), {"package": "_global_"})

    def available(self) -> bool:
        """Whether conf/tuned exists."""
        return TABLES.is_dir()

    def is_group(self, config_path: str) -> bool:
        """Whether this is the name of the group, a scale or a table."""
        return bool(self.list(config_path, None))

    def is_config(self, config_path: str) -> bool:
        """Whether this is the name of a row."""
        return row_of(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names below a group, sorted: scales, tasks or rows."""
        group, *parents = config_path.strip("/").split("/")
        if group != GROUP:
            return []
        if len(parents) == 2:
            return [] if results_filter == ObjectType.GROUP else names(*parents)
        if results_filter == ObjectType.CONFIG or len(parents) > 2:
            return []
        return sorted({table[len(parents)] for table in tables() if table[: len(parents)] == tuple(parents)})


def row_of(config_path: str) -> dict[str, Any] | None:
    """The settings that `tuned/<scale>/<task>/<optim>` names, with their source; None if no table has them."""
    group, *place = config_path.removesuffix(".yaml").strip("/").split("/")
    if group != GROUP or len(place) != 3:
        return None
    scale, task, name = place
    table = _table(scale, task)
    section, optim = table, name
    for augment in (key for key, value in table.items() if isinstance(value, dict) and "lr" not in value):
        if name.endswith(f"_{augment}"):
            section, optim = table[augment], name.removesuffix(f"_{augment}")
    row_and_source = _row(section, optim)
    if row_and_source is None:
        return None
    row, source = row_and_source
    return {"optim": row, "tuned": {"file": "/".join(place), "source": source}}


def tables() -> list[tuple[str, str]]:
    """The scale and task of each table, sorted."""
    files = [(path.parent.name, path.stem) for path in TABLES.glob("*/*.yaml")]
    sections = [(path.stem, task) for path in TABLES.glob("*.yaml") for task in _sections(path)]
    return sorted(files + sections)


def names(scale: str, task: str) -> list[str]:
    """The rows of a table: one for each optimizer that it lists or that falls back on one of these."""
    table = _table(scale, task)
    optimizers = {name for rule in _fallbacks() for name in rule["optimizers"]} | set(table)
    return sorted(name for name in optimizers if row_of(f"{GROUP}/{scale}/{task}/{name}") is not None)


def _row(section: Row, optim: str) -> tuple[Row, str] | None:
    """The values of an optimizer in a table, and their source."""
    rows = {key: row for key, row in section.items() if isinstance(row, dict) and "lr" in row}
    origins = {rule["from"]: rule for rule in _fallbacks() if optim in rule["optimizers"]}
    origin = next((name for name in (optim, *origins) if name in rows), None)
    if origin is None:
        return None
    row, source = rows[origin], str(rows[origin].get("source", section.get("source", "")))
    if origin == optim:
        return {key: value for key, value in row.items() if key != "source"}, source
    source = f"{source}: {origin}'s numbers, since {optim} has none of its own"
    return {key: row[key] for key in origins[origin]["takes"] if key in row}, source


def _fallbacks() -> list[Row]:
    return _read(TABLES / FALLBACK)


def _table(scale: str, task: str) -> Row:
    """A task's table: a file, or a section of the scale's file; empty if there is none."""
    return _read(TABLES / scale / f"{task}.yaml") or _sections(TABLES / f"{scale}.yaml").get(task, {})


def _sections(path: Path) -> Row:
    """The tables of a scale that has one file for all tasks, by task."""
    return {} if path.name == FALLBACK else _read(path)


def _read(path: Path) -> Any:
    try:
        modified = path.stat().st_mtime_ns
    except OSError:
        return {}
    return _parsed(path, modified)


@cache
def _parsed(path: Path, _: int) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(OmegaConf.load(path))
    return values
