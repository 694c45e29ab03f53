"""Checkpoints of a model in shards: each process writes its parts, and any number of processes reads them.

checkpoint/step-00000200/
    parts/        as torch.distributed.checkpoint writes them: model, average, optimizer
    state.json    as of other checkpoints (recipes/training/checkpoint.py)

They need a disk that all processes see. Where there is none, and for the final weights, the first process gathers the
whole and writes it.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_parts
from torch.distributed.checkpoint.state_dict_saver import save as save_parts
from torch.optim.swa_utils import AveragedModel

from recipes.distributed import devices, processes
from recipes.training import checkpoint


def is_shared(folder: Path) -> bool:
    """Whether all processes see what the first one writes to a folder."""
    mark = folder / ".seen"
    processes.by_first(mark.touch)
    seen = all(processes.by_each(mark.exists))
    processes.by_first(lambda: mark.unlink(missing_ok=True))
    return seen


def save(
    folder: Path,
    run_id: str,
    step: int,
    state: dict[str, Any],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: AveragedModel | None,
) -> None:
    """Write a checkpoint under a temporary name, each process its parts, and rename it.

    Raises:
        ConfigError: the disk is full or cannot be written; the earlier checkpoints are untouched.
    """
    temporary = processes.by_first(lambda: checkpoint.begin(folder, step))
    parts = temporary / checkpoint.PARTS

    def write() -> dict[str, dict[str, int]]:
        with checkpoint.writing(folder, step):
            save_parts(_held(model, optimizer, average), checkpoint_id=parts)
            own = f"__{os.environ.get('RANK', '0')}_"
            mine = [path for path in parts.iterdir() if path.name.startswith(own)]
            mine += [parts / ".metadata"] if processes.is_first() else []
            return {f"{checkpoint.PARTS}/{path.name}": checkpoint.secured(path) for path in mine}

    files = {name: held for each in processes.by_each(write) for name, held in each.items()}
    processes.by_first(lambda: checkpoint.seal(folder, run_id, step, state, files))


def load(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: AveragedModel | None) -> None:
    """Read a checkpoint of parts, into shards of any number of processes or into a whole model.

    Raises:
        ConfigError: a process does not see it.
    """
    parts = folder / checkpoint.PARTS
    processes.by_all(lambda: checkpoint.check_seen(parts))
    held = _held(model, optimizer, average)
    load_parts(held, checkpoint_id=parts, no_dist=not processes.joined())
    set_model_state_dict(model, devices.reshaped(held["model"], model, _shape(model)))
    if held["optimizer"]["state"]:  # torch refuses an empty one; groups alone say nothing that the config does not
        set_optimizer_state_dict(model, optimizer, devices.reshaped_state(held["optimizer"], model, _shape(model)))
    if average is not None:
        set_model_state_dict(average.module, devices.reshaped(held["average"], average.module, _shape(average.module)))
        average.n_averaged.copy_(held["n_averaged"])


def _held(model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: AveragedModel | None) -> dict[str, Any]:
    """What a checkpoint has, by name; scalars are vectors of one element, as in shards."""
    held: dict[str, Any] = {
        "model": devices.reshaped(get_model_state_dict(model), model, (1,)),
        "optimizer": devices.reshaped_state(get_optimizer_state_dict(model, optimizer), model, (1,)),
    }
    if average is not None:
        held["average"] = devices.reshaped(get_model_state_dict(average.module), average.module, (1,))
        held["n_averaged"] = average.n_averaged
    return held


def _shape(model: torch.nn.Module) -> tuple[int, ...]:
    """The shape of what is a scalar where the model is whole."""
    return (1,) if hasattr(model, "scalars") else ()
