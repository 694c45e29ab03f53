"""What one step keeps and computes, worked out on tensors that have shapes and no memory.

The forward pass runs on fake tensors that claim to lie on a GPU, so autocast and dropout keep for backward what
they keep there, on a machine that has none. Every optimizer really steps once: nothing here knows a formula.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from recipes.distributed import sharding
from recipes.training.param_groups import set_training

Batch = dict[str, Tensor]
LossFn = Callable[[nn.Module, Batch], Tensor]
BatchFn = Callable[[int], Batch]
OptimizerFn = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
GroupsFn = Callable[[nn.Module], list[dict[str, Any]]]

TRACED_BATCHES = (64, 128, 192)  # three, because a contrastive loss keeps an n × n matrix: a parabola in n


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
    model: nn.Module,
    loss_fn: LossFn,
    batch_fn: BatchFn,
    dtype: torch.dtype | None,
    fused: bool,
    device: str = "cuda",
    keeps: Callable[[nn.Module, LossFn, Batch], tuple[int, int]] = kept_for_backward,
) -> Activations:
    """Fit a parabola to what three batches keep, with a fused attention kernel or with the matrix stored.

    `keeps` returns the bytes that live from forward to backward and the largest tensor's.
    """
    points = []
    for n in TRACED_BATCHES:
        with _fake(device, dtype), _FusedAttention() if fused else nullcontext():
            points.append(keeps(_copy(model, device), loss_fn, _batch(batch_fn(n), device)))
    (small, _), (middle, _), (large, largest) = points
    square = (large - 2 * middle + small) / 2
    linear = middle - small - 3 * square
    n = TRACED_BATCHES[0]
    return Activations(small - linear - square, linear / n, square / n**2, largest / TRACED_BATCHES[-1])


@dataclass(frozen=True)
class Shards:
    """What each of several devices holds whole while the model itself is divided among them (FSDP), in bytes.

    Attributes:
        root: parameters that stay gathered for a step, and their gradients.
        root_gradients: the latter alone.
        work: the largest unit and the one that is fetched ahead, with a unit's gradients and what they are summed in.
        constant: what lives from forward to backward whatever the batch is.
        buffers: which are not divided.
    """

    root: int
    root_gradients: int
    work: int
    constant: float
    buffers: int

    @property
    def whole(self) -> float:
        """All of it."""
        return self.root + self.work + self.constant + self.buffers


def shards(
    model: nn.Module, loss_fn: LossFn, batch_fn: BatchFn, dtype: torch.dtype | None, kept: Activations
) -> Shards:
    """Return what stays whole in shards, which gather in autocast's type what it would copy.

    The model lies on the meta device; `kept` is what its replica keeps.
    """
    model = _copy(model, "meta")
    units = sharding.units(model, "fp32" if dtype is None else "bf16")
    gathered, gradients, sums = [], [], []
    for unit, parameters in zip(units, sharding.parameters(units), strict=True):
        size = dtype.itemsize if unit.half and dtype is not None else 4
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        gathered.append(size * sum(p.numel() for p in parameters))
        gradients.append(size * trained)
        sums.append(4 * trained)
        if unit.half:
            for parameter in parameters:
                parameter.data = torch.empty_like(parameter, dtype=dtype)
    n = TRACED_BATCHES[0]
    with _fake("cuda", dtype), _FusedAttention():
        alive, _ = kept_for_backward(_copy(model, "cuda"), loss_fn, _batch(batch_fn(n), "cuda"))
    constant = alive - kept.per_example * n - kept.per_pair * n**2
    work = max((2 * g + d + s for g, d, s in zip(gathered[:-1], gradients, sums, strict=False)), default=0)
    buffers = sum(b.nbytes for b in model.buffers())
    return Shards(gathered[-1] + gradients[-1], gradients[-1], work, constant, buffers)


@dataclass(frozen=True)
class Flops:
    """FLOPs an example of matrix products and convolutions, a multiply-add as two.

    Attributes:
        forward: of the forward pass.
        both: of forward and backward pass.
        convolutions: the part of `both` that convolutions have.
    """

    forward: int
    both: int
    convolutions: int


def count_flops(model: nn.Module, loss_fn: LossFn, batch_fn: BatchFn) -> Flops:
    """Count the FLOPs of an example."""
    n = TRACED_BATCHES[0]
    with _fake("cpu"), FlopCounterMode(display=False) as counter:
        loss = loss_fn(_copy(model, "cpu"), _batch(batch_fn(n), "cpu"))
        forward = counter.get_total_flops()
        loss.backward()
    by_operator = counter.get_flop_counts()["Global"].items()
    convolutions = sum(flops for operator, flops in by_operator if "convolution" in str(operator))
    return Flops(forward // n, counter.get_total_flops() // n, convolutions // n)


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
                    set_training(optimizer, True)
                    optimizer.step()
            parameter_storages = {p.untyped_storage()._cdata for p in parameters}
            state = [t for t in tree_leaves([*optimizer.state.values()]) if isinstance(t, Tensor)]
            storages = [t.untyped_storage() for t in state if t.device.type == device]
            return sum({s._cdata: s.nbytes() for s in storages if s._cdata not in parameter_storages}.values())
        except Exception as error:
            reason = reason or one_line(error)
    return reason


def one_line(error: Exception) -> str:
    """Return an exception as a short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
