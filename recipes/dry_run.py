"""What a run would cost, worked out on tensors that have shapes and no memory: no data, no training.

The forward pass runs on fake tensors that claim to lie on a GPU, so autocast and dropout keep for backward what
they keep there, on a machine that has none. Every optimizer really steps once: nothing here knows a formula.
docs/dry_run.md says what is exact, what is an approximation, and how each was checked.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from recipes.errors import ConfigError

Batch = dict[str, Tensor]
LossFn = Callable[[nn.Module, Batch], Tensor]
BatchFn = Callable[[int], Batch]
OptimizerFn = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
GroupsFn = Callable[[nn.Module], list[dict[str, Any]]]

ALLOWANCE = 0.05  # of a device, left free: the driver's context, library workspaces, the allocator's fragmentation
TRACED_BATCHES = (64, 128, 192)  # three, because a contrastive loss keeps an n × n matrix: a parabola in n
NOTE = f"""\
replicas    devices that each hold the model whole and an equal share of the batch (none: it does not fit)
sharded     devices that divide all but activations among them (FSDP)
one device  the largest micro batch x gradient accumulation
Each holds twice the largest activation, for what backward allocates, and keeps {ALLOWANCE:.0%} of its memory free."""


@dataclass(frozen=True)
class Activations:
    """Bytes that live from the forward to the backward pass, by the number n of examples on a device."""

    constant: float  # whatever n: under autocast, the low-precision copies of the weights
    per_example: float  # the batch itself included
    per_pair: float  # times n²
    largest_per_example: float  # of all these tensors, the largest

    def peak(self, n: int) -> int:
        """Return what n examples keep, and what backward adds: the largest tensor's gradients, in and out."""
        largest = max(self.largest_per_example * n, self.per_pair * n**2)
        return math.ceil(self.per_example * n + self.per_pair * n**2 + 2 * largest)


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
    flops_per_example_forward: int
    flops_per_step: int  # forward and backward on the global batch, nothing recomputed


@dataclass(frozen=True)
class Devices:
    """How many devices a run needs with one optimizer; None: no number is enough."""

    dividing: int | None  # full replicas, each with an equal share of the batch
    power_of_two: int | None
    sharded: int | None  # all but activations divided over the devices (FSDP), an equal share each
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


def parse_bytes(text: str | int) -> int:
    """Read a size: 32GiB (2^30 each), 80GB (10^9), or a number of bytes. ConfigError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(i?))?B?", str(text).strip(), re.IGNORECASE)
    power = "KMGT".index(match[2].upper()) + 1 if match and match[2] else 0
    number = int(float(match[1]) * (1024 if match[3] else 1000) ** power) if match else 0
    if number <= 0:
        raise ConfigError(f"device_memory={text} is no size: write a number and a unit, as in 32GiB or 80GB.")
    return number


class _FusedAttention(TorchFunctionMode):
    """Have attention keep what a fused kernel keeps, whatever this machine would choose."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | (kwargs or {})
        if func is not nn.functional.scaled_dot_product_attention or named["query"].ndim != 4:
            return func(*args, **(kwargs or {}))
        q, k, v = named["query"], named["key"], named["value"]
        if torch.is_autocast_enabled(q.device.type):
            q, k, v = (t.to(torch.get_autocast_dtype(t.device.type)) for t in (q, k, v))
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(q, k, v, named.get("attn_mask"), compute_log_sumexp=True)[0]


class _AnyScalar(TorchFunctionMode):
    """Answer 1 where an optimizer asks a tensor without data for its value: no state's shape hangs on it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asks = func in (Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.__bool__)
        if asks and (args[0].is_meta or isinstance(args[0], FakeTensor)):
            return {Tensor.__int__: 1, Tensor.__bool__: True}.get(func, 1.0)
        return func(*args, **(kwargs or {}))


@contextmanager
def _fake(device: str, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Pretend that this machine has such a device, under autocast (torch.autocast would refuse)."""
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, dtype is not None)
    torch.set_autocast_dtype(device, dtype or before[1])
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])


def _copy(model: nn.Module, device: str) -> nn.Module:
    memo: dict[int, Any] = {}  # deepcopy takes from here what it would copy; tied tensors stay tied
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values(), *vars(module).values()):
            if isinstance(tensor, Tensor):
                empty = torch.empty_like(tensor.detach(), device=device)
                is_parameter = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return deepcopy(model, memo)


def _batch(batch: Batch, device: str) -> Batch:
    return {name: torch.empty_like(tensor, device=device) for name, tensor in batch.items()}


def kept_for_backward(model: nn.Module, loss_fn: LossFn, batch: Batch) -> tuple[int, int]:
    """Return the bytes that live from forward to backward, and the largest tensor's; tensors may be fake or real.

    Each storage counts once and whole; the batch counts, parameters and buffers do not.
    """
    kept = list(batch.values())

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_fn(model, batch)
    storages = {storage._cdata: storage.nbytes() for storage in (t.untyped_storage() for t in kept)}
    for tensor in (*model.parameters(), *model.buffers()):
        storages.pop(tensor.untyped_storage()._cdata, None)
    return sum(storages.values()), max(storages.values(), default=0)


def trace_activations(
    model: nn.Module, loss_fn: LossFn, batch_fn: BatchFn, dtype: torch.dtype | None, fused: bool, device: str = "cuda"
) -> Activations:
    """Fit a parabola to what three batches keep, with a fused attention kernel or with the matrix stored."""
    points = []
    for n in TRACED_BATCHES:
        with _fake(device, dtype), _FusedAttention() if fused else nullcontext():
            points.append(kept_for_backward(_copy(model, device), loss_fn, _batch(batch_fn(n), device)))
    (small, _), (middle, _), (large, largest) = points
    square = (large - 2 * middle + small) / 2
    linear = middle - small - 3 * square
    n = TRACED_BATCHES[0]
    return Activations(small - linear - square, linear / n, square / n**2, largest / TRACED_BATCHES[-1])


def count_flops(model: nn.Module, loss_fn: LossFn, batch_fn: BatchFn) -> tuple[int, int]:
    """Return FLOPs an example of matrix products and convolutions: forward, and forward with backward."""
    n = TRACED_BATCHES[0]
    with _fake("cpu"), FlopCounterMode(display=False) as counter:
        loss = loss_fn(_copy(model, "cpu"), _batch(batch_fn(n), "cpu"))
        forward = counter.get_total_flops()
        loss.backward()
    return forward // n, counter.get_total_flops() // n


def optimizer_state(model: nn.Module, factory: OptimizerFn, param_groups: GroupsFn | None = None) -> int | str:
    """Step an optimizer on a meta model; return its state's bytes, or in a line why they stay unknown.

    Step counters on the CPU do not count. Fake tensors serve the optimizers that refuse the meta device.
    """
    reason = ""
    for device, place in (("meta", nullcontext()), ("cuda", _fake("cuda"))):
        try:
            with place:
                copy = _copy(model, device)
                parameters = [p for p in copy.parameters() if p.requires_grad]
                for parameter in parameters:
                    parameter.grad = torch.empty_like(parameter)
                optimizer: Any = factory(param_groups(copy) if param_groups else [{"params": parameters}])
                with _AnyScalar():
                    getattr(optimizer, "train", lambda: None)()
                    optimizer.step()
            known = {p.untyped_storage()._cdata for p in parameters}
            state = [t for t in tree_leaves([*optimizer.state.values()]) if isinstance(t, Tensor)]
            storages = [t.untyped_storage() for t in state if t.device.type == device]
            return sum({s._cdata: s.nbytes() for s in storages if s._cdata not in known}.values())
        except Exception as error:
            reason = reason or _one_line(error)
    return reason


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def devices_needed(footprint: Footprint, state: int, batch: int, memory: int) -> Devices:
    """Return how many devices of `memory` bytes hold a step on `batch` examples."""
    usable, kept = memory * (1 - ALLOWANCE), footprint.activations
    model = footprint.parameter_bytes + footprint.gradient_bytes + footprint.ema_bytes + state + kept.constant

    def on_each(devices: int, shards: int = 1) -> int:
        return math.ceil(model / shards) + kept.peak(math.ceil(batch / devices))

    divisors = [n for n in range(1, batch + 1) if batch % n == 0]
    dividing = next((n for n in divisors if on_each(n) <= usable), None)
    sharded = next((n for n in divisors if on_each(n, n) <= usable), None)
    return Devices(
        dividing,
        power_of_two=next((2**k for k in range(batch.bit_length()) if on_each(2**k) <= usable), None),
        sharded=sharded,
        micro_batch=bisect_right(range(1, batch + 1), usable - model, key=kept.peak) or None,
        bytes_per_device=on_each(dividing) if dividing else on_each(sharded, sharded) if sharded else None,
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
        forward, both = count_flops(model, loss_fn, batch_fn)
    except RuntimeError as error:
        raise ConfigError(f"dry_run=true cannot follow this task's loss without data ({_one_line(error)})") from error
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
        flops_per_example_forward=forward,
        flops_per_step=both * global_batch,
    )
    known = [(name, state) for name, state in states.items() if isinstance(state, int)]
    devices = {name: devices_needed(footprint, state, global_batch, device_memory) for name, state in known}
    return DryRun(footprint, devices, global_batch, steps, device_memory, autocast_dtype)


def _size(number: float) -> str:
    power = min(int(math.log(max(number, 1), 1024)), 4)
    return f"{number / 1024**power:,.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def render(result: DryRun, selected: str) -> str:
    """Write the result as text: what all optimizers share, and a line for each, the selected one first."""
    f, kept, unfused = result.footprint, result.footprint.activations, result.footprint.activations_unfused
    precision = str(result.autocast_dtype or torch.float32).removeprefix("torch.")
    stored = f" ({_size(unfused.per_example)} where the attention matrix is stored)" if unfused != kept else ""
    ema = f", moving average {_size(f.ema_bytes)}" if f.ema_bytes else ""
    copies = f", {precision} copies {_size(kept.constant)}" if kept.constant >= 1024 else ""
    lines = [
        f"model       {f.num_parameters:,} parameters, {f.trainable:,} of them trained, computed in {precision}",
        f"replica     parameters {_size(f.parameter_bytes)}, gradients {_size(f.gradient_bytes)}{ema}{copies}",
        f"example     {f.flops_per_example_forward:.4g} FLOPs forward, activations {_size(kept.per_example)}{stored}"
        + (f", and {_size(kept.per_pair)} a pair of examples" if kept.per_pair else ""),
        f"step        {result.global_batch:,} examples, {f.flops_per_step:.4g} FLOPs",
        f"run         {result.steps:,} steps, {f.flops_per_step * result.steps:.4g} FLOPs",
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
    return "\n".join([*lines, "", table, "", NOTE])
