"""A run small enough to be done in a second, through the same config and code as a real one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from recipes import config

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "task=vit_b16",
    "tracker=none",
    "steps=20",
    "eval_every=10",
    "checkpoint_every=5",
    "log_every=5",
    "batch_size=16",
    "schedule.warmup_steps=4",
    "model.args.depth=1",
    "model.args.embed_dim=16",
    "model.args.num_heads=2",
]

Compose = Callable[..., DictConfig]


@pytest.fixture
def tiny(tmp_path: Path) -> Compose:
    """Compose a tiny run that writes below the test's own folder."""

    def composed(*overrides: str) -> DictConfig:
        config.register()
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose("config", overrides=[*TINY, f"output_dir={tmp_path / 'outputs'}", *overrides])

    return composed
