"""Rows of the tables in conf/tuned as configs of Hydra's: `searchpath: ["tuned://"]` in conf/config.yaml."""

from __future__ import annotations

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

from recipes.settings import tuned_tables


class TunedTables(ConfigSource):
    """The rows of the tables in conf/tuned as configs."""

    @staticmethod
    def scheme() -> str:
        """What stands before :// in hydra.searchpath."""
        return "tuned"

    def load_config(self, config_path: str) -> ConfigResult:
        """The row of a name."""
        row = tuned_tables.row_of(config_path)
        if row is None:
            raise ConfigLoadError(f"Config not found : {config_path}")
        return ConfigResult(self.provider, f"{self.scheme()}://", OmegaConf.create(row), {"package": "_global_"})

    def available(self) -> bool:
        """Whether there are tables."""
        return tuned_tables.TABLES.is_dir()

    def is_group(self, config_path: str) -> bool:
        """Whether a name is that of a scale or of a task's table."""
        group, *place = config_path.strip("/").split("/")
        if group != tuned_tables.GROUP or len(place) > 2:
            return False
        return (
            tuned_tables.file_of(*place).is_file() if len(place) == 2 else tuned_tables.TABLES.joinpath(*place).is_dir()
        )

    def is_config(self, config_path: str) -> bool:
        """Whether a name is that of a row."""
        return tuned_tables.row_of(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names below a group, sorted."""
        if not self.is_group(config_path):
            return []
        place = config_path.strip("/").split("/")[1:]
        if len(place) == 2:
            return [] if results_filter == ObjectType.GROUP else tuned_tables.names(*place)
        if results_filter == ObjectType.CONFIG:
            return []
        folder = tuned_tables.TABLES.joinpath(*place)
        return sorted(path.stem for path in folder.iterdir() if path.is_dir() or place)
