"""The run whose weights another starts from: `init_from="run:task=t5_pretrain optim=adamw"`.

It stands in the config by its command, so the id of a run that starts from it does not hang on where records lie, and
every optimizer that is compared starts from the same weights. It is done the first time it is asked for, at the same
scale and in the same output_dir, and found there afterwards.
"""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig

from recipes import record
from recipes.errors import ConfigError

RUN = "run:"  # in init_from=, before the command of a run
ROOT = Path(__file__).resolve().parent.parent
# What launchers tell their processes; the forerunner is one process alone.
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "GROUP_", "ROLE_", "ACCELERATE_", "TORCHELASTIC_")


def source(cfg: DictConfig) -> str | Path:
    """What `init_from=` names, after doing the run where it names one."""
    return folder(cfg) if str(cfg.init_from).startswith(RUN) else str(cfg.init_from)


def folder(cfg: DictConfig) -> Path:
    """The record of the run that `init_from=run:...` describes, after doing it where it is not done.

    Whoever comes first does it and holds a lock; others wait. The process that does the run inherits the lock, so it
    is free when the run has ended, even where the one that asked was killed. A killed run goes on from its checkpoint.

    Raises:
        ConfigError: the run diverged or failed.
    """
    command = str(cfg.init_from).removeprefix(RUN).split()
    if not any(word.startswith("task=") for word in command):
        raise ConfigError(f"{cfg.init_from} names no task; expected as in run:task=t5_pretrain optim=adamw")
    overrides = [
        f"scale={cfg.scale.name}",
        *command,
        f"output_dir={json.dumps(cfg.output_dir)}",
        f"device={cfg.device}",
        "tracker=none",
    ]
    place = record.folder_of(_composed(overrides))
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".first.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _status(place) not in record.FINISHED:
            print(f"starts from {place}, which is made first", flush=True)
            _do(overrides, lock.fileno())
    if (status := _status(place)) != "completed":
        raise ConfigError(
            f"init_from={cfg.init_from}: that run is {status or 'not begun'} (its record: {place}); it can be started "
            f"alone: python run.py {' '.join(overrides)}"
        )
    return place


def _do(overrides: list[str], lock: int) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHED)}
    process = subprocess.Popen([sys.executable, str(ROOT / "run.py"), *overrides], env=environment, pass_fds=(lock,))
    try:
        process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C has reached it too: it is writing a checkpoint
        raise


def _status(place: Path) -> str | None:
    return (record.read_summary(place) or {}).get("status")


def _composed(overrides: list[str]) -> DictConfig:
    """The config as run.py would compose it, also while Hydra is running this process."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from recipes import config

    config.register()
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose("config", overrides=overrides)
    finally:
        GlobalHydra.instance().hydra = running
