"""What a run would cost: parameters, memory, FLOPs, and how many devices it needs with each optimizer.

    python run.py task=vit_b16 optim=lion scale=paper dry_run=true device_memory=32GiB

No data, no training, no memory. docs/dry_run.md says what is exact, what is an approximation, and how each was
checked.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tabulate import tabulate
from torch import nn

from recipes import protocol
from recipes.errors import ConfigError
from recipes.runs import build
from recipes.runs.dry_run import checkpointed, gpus
from recipes.runs.dry_run.memory_estimate import (
    Activations,
    BatchFn,
    Flops,
    GroupsFn,
    LossFn,
    OptimizerFn,
    Shards,
    count_flops,
    one_line,
    optimizer_state,
    shards,
    trace_activations,
)
from recipes.settings import choices, tuned_tables
from recipes.settings.arguments import parse_bytes
from recipes.settings.schema import CONF
from recipes.training import param_groups

ALLOWANCE = 0.05  # of a device, left free: the driver's context, library workspaces, the allocator's fragmentation
NOTE = f"""\
replicas    devices that each hold the model whole and an equal share of the batch, in accumulate= parts
            (none: it does not fit)
sharded     devices that divide the model among them (FSDP), shard_size= of them where it is set, and gather a block
            at a time; shard=true needs two at least
one device  the largest micro-batch x gradient accumulation
Each holds twice the largest activation, for what backward allocates, and keeps {ALLOWANCE:.0%} of its memory free."""


@dataclass(frozen=True)
class Footprint:
    """One copy of the model, one example and one step; sizes in bytes, a multiply-add is two FLOPs."""

    num_parameters: int
    trainable: int
    parameter_bytes: int  # buffers included
    gradient_bytes: int
    ema_bytes: int
    optimizer_state_bytes: Mapping[str, int | str]  # the reason, where it is unknown
    activations: Activations  # with an attention kernel that never stores the attention matrix
    activations_unfused: Activations  # with one that does
    activations_checkpointed: Activations | None  # where blocks are computed again in backward; None: there are none
    shards: Shards  # what stays whole where the model is divided
    flops: Flops  # of an example, nothing recomputed

    @property
    def fixed(self) -> int:
        """Bytes whatever the batch and the optimizer are."""
        return self.parameter_bytes + self.gradient_bytes + self.ema_bytes


@dataclass(frozen=True)
class Division:
    """How a step is divided: the settings of these names.

    Attributes:
        accumulate: micro-batches a step.
        shard_size: devices that share a copy of the model; None: all of them.
        reduce_every_micro_batch: gradients are divided after each micro-batch, not kept whole to the last.
    """

    accumulate: int = 1
    shard_size: int | None = None
    reduce_every_micro_batch: bool = False


@dataclass(frozen=True)
class Devices:
    """How many devices a run needs with one optimizer; None: no number is enough."""

    dividing: int | None  # full replicas, each with an equal share of the batch
    power_of_two: int | None
    sharded: int | None  # two or more that divide the model among them (FSDP), with an equal share of the batch each
    micro_batch: int | None  # the most examples that one device holds, for gradient accumulation
    bytes_per_device: int | None  # on `dividing` replicas, or on `sharded` devices where no replica fits


@dataclass(frozen=True)
class DryRun:
    """The footprint of a run and, for every optimizer with a known state, the devices that it needs."""

    footprint: Footprint
    devices: Mapping[str, Devices]
    global_batch: int
    steps: int
    device_memory: int
    autocast_dtype: torch.dtype | None
    division: Division


def devices_needed(
    footprint: Footprint, state: int, batch: int, memory: int, division: Division = Division()
) -> Devices:
    """Return how many devices of `memory` bytes hold a step on `batch` examples."""
    usable, kept, shards = memory * (1 - ALLOWANCE), footprint.activations, footprint.shards
    model = footprint.fixed + state + kept.constant

    def activations(devices: int) -> int:
        return kept.peak(math.ceil(batch / (devices * division.accumulate)))

    def on_each(devices: int) -> int:
        return math.ceil(model) + activations(devices)

    divided, whole = model - kept.constant - shards.buffers, shards.whole
    if division.accumulate > 1 and not division.reduce_every_micro_batch:
        divided -= footprint.gradient_bytes
        whole += footprint.gradient_bytes - shards.root_gradients

    def in_shards(devices: int) -> int:
        return math.ceil(divided / (division.shard_size or devices) + whole) + activations(devices)

    parts = [n for n in range(1, batch + 1) if batch % (n * division.accumulate) == 0]
    groups = [n for n in parts if n > 1 and n % (division.shard_size or n) == 0]
    dividing = next((n for n in parts if on_each(n) <= usable), None)
    sharded = next((n for n in groups if in_shards(n) <= usable), None)
    return Devices(
        dividing,
        power_of_two=next((2**k for k in range(batch.bit_length()) if on_each(2**k) <= usable), None),
        sharded=sharded,
        micro_batch=bisect_right(range(1, batch + 1), usable - model, key=kept.peak) or None,
        bytes_per_device=on_each(dividing) if dividing else in_shards(sharded) if sharded else None,
    )


def estimate(
    model_fn: Callable[[], nn.Module],
    loss_fn: LossFn,
    batch_fn: BatchFn,
    optimizers: Mapping[str, OptimizerFn],
    *,
    global_batch: int,
    steps: int,
    autocast_dtype: torch.dtype | None,
    device_memory: int,
    param_groups: GroupsFn | None = None,
    ema: bool = False,
    division: Division = Division(),
) -> DryRun:
    """Work out what a run costs with each optimizer, without data, training or memory.

    `loss_fn` is what a training step differentiates, `batch_fn(n)` gives it n examples as meta tensors;
    `param_groups` and the factories are the run's own. ConfigError where the loss asks tensors for values.
    """
    with torch.device("meta"):
        model = model_fn().train()
    try:
        activations = trace_activations(model, loss_fn, batch_fn, autocast_dtype, fused=True)
        unfused = trace_activations(model, loss_fn, batch_fn, autocast_dtype, fused=False)
        recomputed = None
        if checkpointed.blocks(model):
            arguments = model, loss_fn, batch_fn, autocast_dtype
            recomputed = trace_activations(*arguments, fused=True, keeps=checkpointed.kept_for_backward)
        flops = count_flops(model, loss_fn, batch_fn)
        divided = shards(model, loss_fn, batch_fn, autocast_dtype, activations)
    except RuntimeError as error:
        raise ConfigError(f"dry_run=true cannot follow this task's loss without data ({one_line(error)})") from error
    trained = [p for p in model.parameters() if p.requires_grad]
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    states = {name: optimizer_state(model, factory, param_groups) for name, factory in optimizers.items()}
    footprint = Footprint(
        num_parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in trained),
        parameter_bytes=weights,
        gradient_bytes=sum(p.nbytes for p in trained),
        ema_bytes=weights if ema else 0,
        optimizer_state_bytes=states,
        activations=activations,
        activations_unfused=unfused,
        activations_checkpointed=recomputed,
        shards=divided,
        flops=flops,
    )
    known_states = [(name, state) for name, state in states.items() if isinstance(state, int)]
    devices = {
        name: devices_needed(footprint, state, global_batch, device_memory, division) for name, state in known_states
    }
    return DryRun(footprint, devices, global_batch, steps, device_memory, autocast_dtype, division)


def _size(number: float) -> str:
    power = min(int(math.log(max(number, 1), 1024)), 4)
    return f"{number / 1024**power:,.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def render(result: DryRun, selected: str) -> str:
    """Write the result as text: what all optimizers share, and a line for each, the selected one first."""
    f, kept, unfused = result.footprint, result.footprint.activations, result.footprint.activations_unfused
    flops_per_step = f.flops.both * result.global_batch
    precision = str(result.autocast_dtype or torch.float32).removeprefix("torch.")
    stored = f" ({_size(unfused.per_example)} where the attention matrix is stored)" if unfused != kept else ""
    ema = f", moving average {_size(f.ema_bytes)}" if f.ema_bytes else ""
    copies = f", {precision} copies {_size(kept.constant)}" if kept.constant >= 1024 else ""
    lines = [
        f"model       {f.num_parameters:,} parameters, {f.trainable:,} of them trained, computed in {precision}",
        f"replica     parameters {_size(f.parameter_bytes)}, gradients {_size(f.gradient_bytes)}{ema}{copies}",
        f"shards      {_size(f.shards.whole)} on each beside its share: {_size(f.shards.root)} gathered for a step, "
        f"{_size(f.shards.work)} for the block at work{_kept_whole(result)}",
        f"example     {f.flops.forward:.4g} FLOPs forward, activations {_size(kept.per_example)}{stored}"
        + (f", and {_size(kept.per_pair)} a pair of examples" if kept.per_pair else ""),
        f"step        {result.global_batch:,} examples, {flops_per_step:.4g} FLOPs",
        f"run         {result.steps:,} steps, {flops_per_step * result.steps:.4g} FLOPs",
    ]
    rows: list[list[Any]] = []
    for name, state in sorted(f.optimizer_state_bytes.items(), key=lambda item: item[0] != selected):
        rows.append([f"> {name}" if name == selected else f"  {name}", "unknown", *["-"] * 6])
        if isinstance(state, str):
            lines.append(f"{name}: state unknown, {state}")
            continue
        d, each = result.devices[name], result.devices[name].bytes_per_device
        alone = d.micro_batch and f"{d.micro_batch:,} x {math.ceil(result.global_batch / d.micro_batch):,}"
        rows[-1][1:] = [
            _size(state),
            f"{state / f.trainable:.2f} B",
            d.dividing,
            d.power_of_two,
            d.sharded,
            each and _size(each),
            alone,
        ]
    memory = f"devices of {_size(result.device_memory)}"
    headers = [memory, "state", "/parameter", "replicas", "power of 2", "sharded", "on each", "one device"]
    table = tabulate(rows, headers, preserve_whitespace=True, missingval="none", colalign=["left"] + ["right"] * 7)
    text = [*lines, "", table, "", NOTE]
    own_state = f.optimizer_state_bytes.get(selected)
    if isinstance(own_state, int):
        text += ["", _one_gpu(result, own_state, selected), "", gpus.NOTE]
    return "\n".join(text)


def _kept_whole(result: DryRun) -> str:
    """What micro-batches add in shards."""
    if result.division.accumulate == 1 or result.division.reduce_every_micro_batch:
        return ""
    gradients = result.footprint.gradient_bytes - result.footprint.shards.root_gradients
    return f", {_size(gradients)} of gradients until the last micro-batch"


def _one_gpu(result: DryRun, state: int, optimizer: str) -> str:
    """What one GPU of each kind makes of the run, with the optimizer that has this state."""
    f = result.footprint
    fixed = f.fixed + state
    kept = f.activations, f.activations_checkpointed
    run = gpus.Run(f.flops, result.global_batch, result.steps, result.autocast_dtype)
    return gpus.table(run, fixed, kept, ALLOWANCE, optimizer)


def of_config(cfg: DictConfig, optimizers: Mapping[str, Any]) -> DryRun:
    """Work out what a run costs with optimizers, given as nodes of conf/optim by name."""
    recipe = protocol.make(cfg)
    return estimate(
        recipe.model,
        lambda model, batch: recipe.loss(model, batch)["loss"],
        recipe.blank_batch,
        {name: build.optimizer_factory(optim) for name, optim in optimizers.items()},
        global_batch=cfg.batch_size,
        steps=cfg.steps,
        autocast_dtype=torch.bfloat16 if cfg.precision == "bf16" else None,
        device_memory=parse_bytes(cfg.device_memory),
        param_groups=lambda model: param_groups.parameter_groups(model, cfg.decay, 0.1),  # decay costs no memory
        ema=cfg.ema_decay is not None,
        division=Division(cfg.accumulate, cfg.shard_size, cfg.reduce_every_micro_batch),
    )


def as_tuned(name: str, cfg: DictConfig) -> Any:
    """An optimizer's node as its own file and the task's table describe it, whatever the chosen one was given."""
    row = tuned_tables.row_of(f"tuned/{cfg.scale.name}/{cfg.task.name}/{name}") or {"optim": {}}
    return OmegaConf.merge(OmegaConf.load(CONF / "optim" / f"{name}.yaml"), row["optim"])


def run(cfg: DictConfig) -> None:
    """Print what a run would cost with its optimizer and with every other in conf/optim."""
    optimizers = {name: as_tuned(name, cfg) for name in choices.names("optim")}
    result = of_config(cfg, optimizers | {cfg.optim.name: cfg.optim})
    print(f"{cfg.task.name} at scale {cfg.scale.name}: {cfg.model.name}, a dry run\n")
    print(render(result, cfg.optim.name))
    with torch.device("meta"):
        model = protocol.make(cfg).model()
    print(f"\ndecay={cfg.decay}: what weight decay acts on, for every optimizer\n")
    print(param_groups.table(model, cfg.decay))
