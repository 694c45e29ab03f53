"""Processes and devices: accelerate starts them, replicas or shards hold the model."""

import os
import sys
from typing import Any

import torch
from accelerate import Accelerator
from omegaconf import DictConfig
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from recipes.errors import ConfigError

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def start(cfg: DictConfig) -> Accelerator:
    """Join the processes of this run and choose the device.

    Raises:
        ConfigError: processes and accumulation do not divide the batch, or a setting needs more processes.
    """
    if cfg.scale.threads is not None:
        torch.set_num_threads(cfg.scale.threads)
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if launched and "RANK" not in os.environ:
        print(
            "accelerate started one process where several were asked for: without a GPU it needs "
            "accelerate launch --multi_gpu --num_processes N, or use torchrun --nproc_per_node N",
            file=sys.stderr,
        )
    accelerator = Accelerator(
        cpu=cfg.device == "cpu" or not torch.accelerator.is_available(),
        mixed_precision="bf16" if cfg.precision == "bf16" else "no",
    )
    parts = accelerator.num_processes * cfg.accumulate
    if cfg.batch_size % parts:
        fewer = cfg.batch_size // parts * parts
        nearest = ", ".join(str(size) for size in (fewer, fewer + parts) if size)
        raise ConfigError(
            f"batch_size={cfg.batch_size} is not divisible by {accelerator.num_processes} processes x "
            f"accumulate={cfg.accumulate}; the nearest that are: {nearest}"
        )
    if cfg.shard and accelerator.num_processes == 1:
        raise ConfigError("shard=true needs several processes: accelerate launch --num_processes N run.py ...")
    if cfg.shard and cfg.ema_decay is not None:
        raise ConfigError("shard=true does not keep a Polyak average yet; set ema_decay=null or shard=false")
    return accelerator


def shard(model: nn.Module, accelerator: Accelerator) -> None:
    """Split parameters, gradients and optimizer state over the processes (FSDP), block by block, in place.

    Each block goes to the device when its turn has come, whole, and leaves its part there.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for module in reversed(list(model.modules())):  # what lies within a block goes before it
        if isinstance(module, nn.ModuleList | nn.Sequential):
            for block in module:
                if len(list(block.parameters())) > 2:  # a transformer block or a stage, not a single layer
                    fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def state_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, sharded: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Whole state dictionaries of model and optimizer, on every process or, if sharded, on the first alone."""
    if sharded:
        return get_model_state_dict(model, options=_WHOLE), get_optimizer_state_dict(model, optimizer, options=_WHOLE)
    return model.state_dict(), optimizer.state_dict()


def restore(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, Any],
    state: dict[str, Any],
    sharded: bool,
) -> None:
    """Load whole state dictionaries; each process keeps its part."""
    if sharded:
        set_model_state_dict(model, weights, options=_WHOLE)
        set_optimizer_state_dict(model, optimizer, state, options=_WHOLE)
    else:
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)


def name_dtypes(optimizer: torch.optim.Optimizer) -> None:
    """Have an optimizer's state dictionary name its groups' types: torch's sharded ones hold no torch.dtype."""

    def named(_: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        for group in state["param_groups"]:
            group.update({k: str(v) for k, v in group.items() if isinstance(v, torch.dtype)})

    def typed(_: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        for group in state["param_groups"]:
            names = {k: v for k, v in group.items() if isinstance(v, str) and v.startswith("torch.")}
            group.update({k: getattr(torch, v.removeprefix("torch.")) for k, v in names.items()})

    optimizer.register_state_dict_post_hook(named)
    optimizer.register_load_state_dict_pre_hook(typed)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the optimizer's state tensors over all processes' parts, step counters left out."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim > 0
    )
