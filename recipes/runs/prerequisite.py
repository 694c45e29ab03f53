"""The run whose weights another starts from: `init_from="run:task=t5_pretrain optim=adamw"`.

It stands in the config by its command, and in the id of a run that starts from it by its own id: that hangs on its
settings and not on where records lie. Every optimizer that is compared starts from the same weights. It is done the
first time it is asked for, at the same scale and in the same output_dir, and found there afterwards.
"""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig

from recipes.distributed import processes
from recipes.errors import ConfigError
from recipes.runs import record, sweep
from recipes.settings import schema

ROOT = Path(__file__).resolve().parent.parent.parent
# What launchers and this process tell their own; the forerunner is one process alone, and no run of a sweep.
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "GROUP_", "ROLE_", "ACCELERATE_", "TORCHELASTIC_", "TORCH_NCCL_")
MPI = ("MPI_", "PMI_", "OMPI_", "MV2_", "PMIX_")
OWN = ("HYDRA_FULL_ERROR", sweep.VARIABLE, "WANDB_SERVICE", "WANDB_RUN_")
NOT_INHERITED = (*LAUNCHED, *MPI, *OWN)


def source(cfg: DictConfig) -> str | Path:
    """What `init_from=` names, after doing the run where it names one."""
    return folder(cfg) if str(cfg.init_from).startswith(schema.RUN) else str(cfg.init_from)


def folder(cfg: DictConfig) -> Path:
    """The record of the run that `init_from=run:...` describes, after doing it where it is not done.

    Whoever comes first does it and holds a lock; others wait. The process that does the run inherits the lock, so it
    is free when the run has ended, even where the one that asked was killed. A killed run goes on from its checkpoint.
    Of several processes of one run, the first does it, and all must ask.

    Raises:
        ConfigError: the run diverged or failed.
    """
    return processes.by_first(lambda: _done(cfg))


def _done(cfg: DictConfig) -> Path:
    overrides = [
        *schema.command_of(str(cfg.init_from), cfg.scale.name),
        f"output_dir={json.dumps(cfg.output_dir)}",
        f"device={cfg.device}",
        "tracker=none",
    ]
    place = record.folder_of(schema.composed(overrides))
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
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    process = subprocess.Popen([sys.executable, str(ROOT / "run.py"), *overrides], env=environment, pass_fds=(lock,))
    try:
        process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C has reached it too: it is writing a checkpoint
        raise


def _status(place: Path) -> str | None:
    return (record.read_summary(place) or {}).get("status")
