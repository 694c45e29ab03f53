"""Runs that another run needs: initial weights (`init_from="run:task=t5_pretrain optim=adamw"`), frozen networks.

The config and the record name such a run by its command. The id of the run that needs it depends on its id, not on
where records are. It is started when it is first needed, at the same scale and in the same output_dir, and reused
afterwards. Recipes and the training loop only get its folder.
"""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from recipes.distributed import processes
from recipes.errors import ConfigError
from recipes.runs import record, sweep
from recipes.settings import schema

ROOT = Path(__file__).resolve().parent.parent.parent
# Variables of launchers and of this process: the run that is needed is one process, and not part of a sweep.
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "GROUP_", "ROLE_", "ACCELERATE_", "TORCHELASTIC_", "TORCH_NCCL_")
MPI = ("MPI_", "PMI_", "OMPI_", "MV2_", "PMIX_")
OWN = ("HYDRA_FULL_ERROR", sweep.VARIABLE, "WANDB_SERVICE", "WANDB_RUN_")
NOT_INHERITED = (*LAUNCHED, *MPI, *OWN)


def resolved(cfg: DictConfig) -> DictConfig:
    """A copy of a config with the folder of a run in place of each `run:command`, after these runs are completed.

    `init_from` and the values of `model.args` may name one. All processes of a run must call this.

    Raises:
        ConfigError: such a run diverged or failed.
    """
    copy = cfg.copy()
    for setting in ("init_from", *(f"model.args.{name}" for name in cfg.model.args)):
        if str(OmegaConf.select(cfg, setting)).startswith(schema.RUN):
            OmegaConf.update(copy, setting, str(folder(cfg, setting)))
    return copy


def folder(cfg: DictConfig, setting: str = "init_from") -> Path:
    """The record of the run that a setting names by `run:command`, after this run is completed.

    The first command that needs it starts it and holds a lock; others wait. The process of the run inherits the lock,
    so it is released when the run ends, even if the command that started it was killed. A killed run continues from its
    checkpoint. All processes of a run must call this; the first one starts the needed run.

    Raises:
        ConfigError: the run diverged or failed.
    """
    return processes.on_first(lambda: _done(cfg, setting))


def _done(cfg: DictConfig, setting: str) -> Path:
    command = str(OmegaConf.select(cfg, setting))
    overrides = [
        *schema.command_of(command, cfg.scale.name),
        f"output_dir={json.dumps(cfg.output_dir)}",
        f"device={cfg.device}",
        "tracker=none",
    ]
    place = record.folder_of(schema.composed(overrides))
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".first.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _status(place) not in record.FINISHED:
            print(f"{setting} names the run {place}, which is done first", flush=True)
            _do(overrides, lock.fileno())
    if (status := _status(place)) != "completed":
        raise ConfigError(
            f"{setting}={command}: that run is {status or 'not begun'} (its record: {place}); it can be started "
            f"alone: python run.py {' '.join(overrides)}"
        )
    return place


def _do(overrides: list[str], lock: int) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    process = subprocess.Popen([sys.executable, str(ROOT / "run.py"), *overrides], env=environment, pass_fds=(lock,))
    try:
        process.wait()
    except KeyboardInterrupt:
        process.wait()  # it has got Ctrl-C too and is writing a checkpoint
        raise


def _status(place: Path) -> str | None:
    return (record.read_summary(place) or {}).get("status")
