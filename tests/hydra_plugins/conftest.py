"""The tuning sweeper over a launcher that trains nothing: it writes each run's summary from a formula."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.tuning import TuningSweeper
from recipes.runs.record import folder_of
from recipes.settings import schema

ROOT = Path(__file__).resolve().parents[2]
# The first grid alone, unless a test asks for more.
ONE_TRIAL_SEED = {"rings": 0, "refine": False, "shortlist": 0, "repeats": 0}
VARIED = ("optim.lr=", "optim.weight_decay=", "seed=")  # by the protocol, from run to run


class Launcher:
    """Notes each run it is given and writes what `outcome(cfg)` says its summary holds."""

    def __init__(self, sweeper: TuningSweeper, outcome: Callable[[DictConfig], dict[str, Any]]) -> None:
        self.sweeper, self.outcome = sweeper, outcome
        self.runs: list[DictConfig] = []
        self.studies: dict[tuple[str, ...], DictConfig] = {}

    def composed(self, overrides: list[str]) -> DictConfig:
        """The config of a run: by Hydra the first time, then with other values of what the protocol varies."""
        values = dict(text.split("=", 1) for text in overrides if text.startswith(VARIED))
        rest = tuple(text for text in overrides if not text.startswith(VARIED))
        if rest not in self.studies:
            cfg = self.sweeper.context.config_loader.load_sweep_config(self.sweeper.base, overrides)
            OmegaConf.set_struct(cfg, False)
            cfg.pop("hydra")
            self.studies[rest] = cfg
        cfg = self.studies[rest].copy()
        for name, value in values.items():
            OmegaConf.update(cfg, name, json.loads(value))
        return cfg

    def launch(self, jobs: list[list[str]], initial_job_idx: int) -> list[Any]:
        for overrides in jobs:
            cfg = self.composed(overrides)
            self.runs.append(cfg)
            folder = folder_of(cfg)
            folder.mkdir(parents=True, exist_ok=True)
            summary = {"run_id": folder.name, "task": cfg.task.name, "optim": cfg.optim.name, "status": "completed"}
            summary |= {"scale": cfg.scale.name, "seed": cfg.seed, "metric": "accuracy", "goal": "max", "test": 0.5}
            summary |= {"lr": cfg.optim.lr, "weight_decay": cfg.optim.weight_decay, "steps_per_second": 50.0}
            (folder / "summary.json").write_text(json.dumps(summary | self.outcome(cfg)))
        return [SimpleNamespace(return_value=None) for _ in jobs]


def near(lr: float, weight_decay: float) -> Callable[[DictConfig], dict[str, Any]]:
    """Validation figures that are best at one setting and fall off with the distance in decades."""

    def outcome(cfg: DictConfig) -> dict[str, Any]:
        away = abs(math.log10(cfg.optim.lr / lr)) + abs(math.log10(cfg.optim.weight_decay / weight_decay))
        return {"final": 1 - away / 10}

    return outcome


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Launcher]:
    """Run the protocol; returns the launcher with the runs it was given."""

    def run(*overrides: str, outcome: Callable[[DictConfig], dict[str, Any]] | None = None, **given: Any) -> Launcher:
        schema.register()
        arguments = [text if "=" in text else f"+{text}" for text in overrides]
        parser = OverridesParser.create()
        plain = [text for text in arguments if not parser.parse_override(text).is_sweep_override()]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            fixed = ["tracker=none", f"output_dir={tmp_path / 'outputs'}", "hydra/sweeper=tuning"]
            base = compose("config", overrides=[*fixed, *plain], return_hydra_config=True)
            OmegaConf.set_struct(base, False)
            base.hydra.overrides.hydra = []
            node: Any = OmegaConf.to_container(base.hydra.sweeper)
            node.pop("_target_")
            sweeper = TuningSweeper(**(node | ONE_TRIAL_SEED | given))
            sweeper.context = SimpleNamespace(config_loader=GlobalHydra.instance().config_loader())
            sweeper.prepare(base)
            sweeper.launcher = launcher = Launcher(sweeper, outcome or near(1e-3, 1.0))
            sweeper.sweep([*arguments, f"output_dir={tmp_path / 'outputs'}", "tracker=none"])
        return launcher

    return run
