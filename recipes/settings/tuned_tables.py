"""Tuned numbers, one table a task and scale: conf/tuned/<scale>/<task>.yaml holds a row for each optimizer.

`TunedTables` gives Hydra a row of a table under the name `tuned/<scale>/<task>/<optim>`, and with an
augmentation's name behind it (`lion_randaug_mixup`) a row of that augmentation's section:

    source: "Lion paper, Table 12, ImageNet ViT-B/16"
    adamw: {lr: 3e-3, weight_decay: 0.3}
    lion: {lr: 1e-3, weight_decay: 1.0}
    randaug_mixup:
      source: "Lion paper, Table 12, ImageNet ViT-B/16, RandAug 2 15 + Mixup 0.5"
      lion: {lr: 1e-4, weight_decay: 10.0}

An optimizer without a row takes another's numbers, as conf/tuned/fallback.yaml says, and `tuned.source` says so.
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
Row = dict[str, Any]


class TunedTables(ConfigSource):
    """The rows of the tables as configs of Hydra's: `searchpath: ["tuned://"]` in conf/config.yaml."""

    @staticmethod
    def scheme() -> str:
        """What stands before :// in hydra.searchpath."""
        return "tuned"

    def load_config(self, config_path: str) -> ConfigResult:
        """The row of a name."""
        row = row_of(config_path)
        if row is None:
            raise ConfigLoadError(f"Config not found : {config_path}")
        return ConfigResult(self.provider, f"{self.scheme()}://", OmegaConf.create(row), {"package": "_global_"})

    def available(self) -> bool:
        """Whether there are tables."""
        return TABLES.is_dir()

    def is_group(self, config_path: str) -> bool:
        """Whether a name is that of a scale or of a task's table."""
        group, *place = config_path.strip("/").split("/")
        if group != GROUP or len(place) > 2:
            return False
        return file_of(*place).is_file() if len(place) == 2 else TABLES.joinpath(*place).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Whether a name is that of a row."""
        return row_of(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names below a group, sorted."""
        if not self.is_group(config_path):
            return []
        place = config_path.strip("/").split("/")[1:]
        if len(place) == 2:
            return [] if results_filter == ObjectType.GROUP else names(*place)
        if results_filter == ObjectType.CONFIG:
            return []
        folder = TABLES.joinpath(*place)
        return sorted(path.stem for path in folder.iterdir() if path.is_dir() or place)


def row_of(config_path: str) -> dict[str, Any] | None:
    """The settings that `tuned/<scale>/<task>/<optim>` names, with their source; None where nothing is known."""
    group, *place = config_path.removesuffix(".yaml").strip("/").split("/")
    if group != GROUP or len(place) != 3:
        return None
    scale, task, name = place
    table = _read(file_of(scale, task))
    section, optim = table, name
    for augment in (key for key, value in table.items() if isinstance(value, dict) and "lr" not in value):
        if name.endswith(f"_{augment}"):
            section, optim = table[augment], name.removesuffix(f"_{augment}")
    row_and_source = _row(section, optim)
    if row_and_source is None:
        return None
    row, source = row_and_source
    return {"optim": row, "tuned": {"file": "/".join(place), "source": source}}


def names(scale: str, task: str) -> list[str]:
    """The optimizers that a table has numbers for, its own rows and what falls back on them."""
    table = _read(file_of(scale, task))
    optimizers = {name for rule in _fallbacks() for name in rule["optimizers"]} | set(table)
    return sorted(name for name in optimizers if row_of(f"{GROUP}/{scale}/{task}/{name}") is not None)


def _row(section: Row, optim: str) -> tuple[Row, str] | None:
    """The numbers of an optimizer in a table, and where they come from."""
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
    return _read(TABLES / "fallback.yaml")


def file_of(scale: str, task: str) -> Path:
    """Where a task's table lies."""
    return TABLES / scale / f"{task}.yaml"


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
