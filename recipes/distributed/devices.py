"""Start accelerate's processes and devices, and convert state between whole models, replicas and shards."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import AveragedModel
from torch.utils._pytree import tree_leaves

from recipes.distributed import bf16_on_cpu, processes
from recipes.errors import ConfigError
from recipes.settings.validation import batch_problem

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
    gc.collect()  # an earlier run's model refers to itself: accelerate and torch.compile replace methods of it
    # An earlier run in this process may have had another precision and another device.
    AcceleratorState._reset_state(reset_partial_state=not processes.joined())
    accelerator = Accelerator(
        cpu=cfg.device == "cpu" or not torch.accelerator.is_available(),
        mixed_precision="bf16" if cfg.precision == "bf16" else "no",
    )
    set_precision(cfg, accelerator.device)
    # Of processes that something other than torchrun started, this is the first count that is known.
    if problem := batch_problem(cfg.batch_size, accelerator.num_processes, cfg.accumulate):
        raise ConfigError(problem)
    if cfg.shard and accelerator.num_processes == 1:
        here = max(2, torch.accelerator.device_count())
        raise ConfigError(
            "shard=true splits the model over several processes, and this is one alone: start the same command with "
            f"torchrun --nproc_per_node {here} instead of python, or set shard=false"
        )
    return accelerator


def set_precision(cfg: DictConfig, device: torch.device) -> None:
    """Choose the kernels of products and convolutions that a run on this device uses.

    In float32 on a GPU they are calculated in TF32 or exactly, and in bfloat16 on a CPU that has no instructions for it
    in float32.
    """
    if device.type == "cuda":
        tf32 = cfg.tf32 and cfg.precision == "fp32"
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
    slow = device.type == "cpu" and cfg.precision == "bf16" and bf16_on_cpu.has_slow_products()
    if slow and not bf16_on_cpu.multiply_in_float32():
        print("precision=bf16 is slow on this CPU, which has no instructions for it; torch>=2.9 helps", file=sys.stderr)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute products and convolutions in float32 without TF32 within the block."""
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions


def _scalars(model: nn.Module) -> Any:
    """The names of scalar parameters, which are vectors of one element in shards."""
    names = {name for name, parameter in model.named_parameters() if parameter.ndim == 0}
    return getattr(model, "scalars", names)  # set by sharding.shard


def reshaped(tensors: dict[str, Any], model: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    """Weights by name, those of scalar parameters with another shape."""
    scalars = _scalars(model)
    return {name: _reshaped(value, shape) if name in scalars else value for name, value in tensors.items()}


def _reshaped(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    return value if value.shape == shape else value.reshape(shape)


def reshaped_state(state: dict[str, Any], model: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    """An optimizer's state by name, with another shape for the tensors of scalar parameters, except step counters."""
    scalars = _scalars(model)
    by_parameter = {
        name: {
            key: _reshaped(value, shape) if isinstance(value, Tensor) and key != "step" else value
            for key, value in values.items()
        }
        if name in scalars
        else values
        for name, values in state["state"].items()
    }
    return {**state, "state": by_parameter}


def _renamed(state: dict[str, Any], names: dict[Any, Any]) -> dict[str, Any]:
    """An optimizer's state with renamed parameters: in shards they are known by name, otherwise by number."""
    return {
        **state,  # other entries of a class, such as a generator's state
        "state": {names.get(key, key): value for key, value in state["state"].items()},
        "param_groups": [
            {**group, "params": [names.get(key, key) for key in group["params"]]} for group in state["param_groups"]
        ],
    }


def _numbers(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """The number of each parameter of a model in the optimizer's state dictionary."""
    order = {id(p): n for n, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    return {name: order[id(p)] for name, p in model.named_parameters() if id(p) in order}


def state_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, sharded: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Whole state dictionaries of model and optimizer, on every process or, if sharded, on the first alone."""
    if not sharded:
        return model.state_dict(), optimizer.state_dict()
    weights = get_model_state_dict(model, options=_WHOLE)
    state = get_optimizer_state_dict(model, optimizer, options=_WHOLE)
    if not state:  # not the first process
        return weights, state
    return reshaped(weights, model, ()), reshaped_state(state, model, ())


def restore(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, Any],
    state: dict[str, Any],
    sharded: bool,
) -> None:
    """Load whole state dictionaries, of a run in shards or not; each process keeps its part."""
    numbers = _numbers(model, optimizer)
    if not sharded:
        model.load_state_dict(weights)
        optimizer.load_state_dict(_renamed(state, numbers) if "state" in state else state)
        return
    state = _renamed(state, {number: name for name, number in numbers.items()})
    set_model_state_dict(model, reshaped(weights, model, (1,)), options=_WHOLE)
    if state["state"]:  # torch refuses an empty state; the groups alone follow from the config
        set_optimizer_state_dict(model, optimizer, reshaped_state(state, model, (1,)), options=_WHOLE)


class Average(AveragedModel):
    """torch's moving average of a model, also of one in shards: each process averages its own part.

    The number of averages stays on the CPU: torch's update would copy it to the device at every step and wait.
    """

    def update_parameters(self, model: nn.Module) -> None:
        """Take the model's parameters and buffers into the average."""
        if isinstance(self.module, FSDPModule):
            self.module.reshard()  # an evaluation leaves the root's parameters gathered
        pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for mine, theirs in zip(_parts(self.module), _parts(model), strict=True):
            averages, values = pairs.setdefault(mine.dtype, ([], []))
            averages.append(mine)
            values.append(theirs)
        for averages, values in pairs.values():
            if self.n_averaged == 0:
                torch._foreach_copy_(averages, values)
            else:
                self.multi_avg_fn(averages, values, self.n_averaged)  # type: ignore[misc]
        self.n_averaged += 1


def _parts(model: nn.Module) -> list[Tensor]:
    """This process's parts of a model's parameters, and its buffers."""
    tensors: list[Any] = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]


def average_state(average: AveragedModel, sharded: bool) -> dict[str, Any]:
    """The whole state dictionary of an average, on every process or, if sharded, on the first alone."""
    if not sharded:
        return average.state_dict()
    weights = reshaped(get_model_state_dict(average.module, options=_WHOLE), average.module, ())
    return {"n_averaged": average.n_averaged} | {f"module.{name}": value for name, value in weights.items()}


def restore_average(average: AveragedModel, state: dict[str, Any], sharded: bool) -> None:
    """Load the whole state dictionary of an average; each process keeps its part."""
    if not sharded:
        average.load_state_dict(state)
        return
    weights = {name.removeprefix("module."): value for name, value in state.items() if name != "n_averaged"}
    set_model_state_dict(average.module, reshaped(weights, average.module, (1,)), options=_WHOLE)
    average.n_averaged.copy_(state["n_averaged"])


def share_running_statistics(model: nn.Module | None) -> None:
    """Give every process the first one's running statistics, so that all evaluate the model that is saved."""
    if model is None or not processes.joined():
        return
    for module in model.modules():
        if isinstance(module, _NormBase):
            for buffer in module.buffers(recurse=False):
                dist.broadcast(buffer, src=0)


def name_dtypes(optimizer: torch.optim.Optimizer) -> None:
    """Store dtypes as names in an optimizer's groups: torch's sharded state dictionaries cannot hold a torch.dtype."""

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
        for value in tree_leaves([*optimizer.state.values()])
        if isinstance(value, torch.Tensor) and value.ndim > 0
    )
