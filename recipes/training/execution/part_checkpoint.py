"""Checkpoints of a sharded model: each process writes its parts, and any number of processes can read them.

checkpoint/step-00000200/
    parts/        as torch.distributed.checkpoint writes them: model, average, optimizer
    state.json    as of other checkpoints (recipes/training/checkpoint.py)

They need a disk that all processes share. Without one, and for the final weights, the first process gathers and writes
the whole model.
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
    processes.on_first(mark.touch)
    seen = all(processes.gather_from_all(mark.exists))
    processes.on_first(lambda: mark.unlink(missing_ok=True))
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
    temporary = processes.on_first(lambda: checkpoint.begin(folder, step))
    parts = temporary / checkpoint.PARTS

    def write() -> dict[str, dict[str, int]]:
        with checkpoint.writing(folder, step):
            save_parts(_content(model, optimizer, average), checkpoint_id=parts)
            prefix = f"__{os.environ.get('RANK', '0')}_"
            mine = [path for path in parts.iterdir() if path.name.startswith(prefix)]
            mine += [parts / ".metadata"] if processes.is_first() else []
            return {f"{checkpoint.PARTS}/{path.name}": checkpoint.secured(path) for path in mine}

    files = {name: entry for each in processes.gather_from_all(write) for name, entry in each.items()}
    processes.on_first(lambda: checkpoint.seal(folder, run_id, step, state, files))


def load(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: AveragedModel | None) -> None:
    """Read a checkpoint of parts, into shards of any number of processes or into a whole model.

    Raises:
        ConfigError: a process does not see it.
    """
    parts = folder / checkpoint.PARTS
    processes.on_all(checkpoint.check_seen, parts)
    state = _content(model, optimizer, average)
    load_parts(state, checkpoint_id=parts, no_dist=not processes.joined())
    set_model_state_dict(model, devices.reshaped(state["model"], model, _shape(model)))
    if state["optimizer"]["state"]:  # torch refuses an empty state; the groups alone follow from the config
        set_optimizer_state_dict(model, optimizer, devices.reshaped_state(state["optimizer"], model, _shape(model)))
    if average is not None:
        set_model_state_dict(average.module, devices.reshaped(state["average"], average.module, _shape(average.module)))
        average.n_averaged.copy_(state["n_averaged"])


def _content(model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: AveragedModel | None) -> dict[str, Any]:
    """The content of a checkpoint by name; scalars are vectors of one element, as in shards."""
    state: dict[str, Any] = {
        "model": devices.reshaped(get_model_state_dict(model), model, (1,)),
        "optimizer": devices.reshaped_state(get_optimizer_state_dict(model, optimizer), model, (1,)),
    }
    if average is not None:
        state["average"] = devices.reshaped(get_model_state_dict(average.module), average.module, (1,))
        state["n_averaged"] = average.n_averaged
    return state


def _shape(model: torch.nn.Module) -> tuple[int, ...]:
    """The shape of scalars: that of vectors of one element if the model is in shards."""
    return (1,) if hasattr(model, "scalars") else ()
