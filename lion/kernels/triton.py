"""The step on a GPU: one launch of a Triton kernel for all tensors of a group.

A launch for each tensor would cost more than the work on small ones. So every program of the one launch looks up which
tensor it works on, in arrays that lie on the device: 40 bytes a tensor. What follows from the sizes is made once for
the same sizes. Addresses are copied again where they have changed, as those of gradients may in every step: a copy
that the device does not wait for, and the host neither. Nothing is autotuned: trying configurations out would apply an
update in place several times. A device is tried once, on a few numbers, before it is trusted with weights.

A captured CUDA graph would replay the addresses and the rate of the step that was captured, so there the plain step is
taken, whose `capturable` rate is a tensor.
"""

import functools
import itertools
from array import array
from collections import OrderedDict
from contextlib import nullcontext
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from lion.kernels import launch, plain
from lion.kernels.launch import Columns, Group, Kind, State, Tensors
from lion.settings import OPTIONS

FLOAT, BFLOAT16 = torch.float32, torch.bfloat16
KINDS = [(weight, momentum, False) for weight in (FLOAT, BFLOAT16) for momentum in (FLOAT, BFLOAT16)]
MEMORY = {FLOAT: tl.float32, BFLOAT16: tl.uint16}  # bfloat16 is taken apart into bits here, and rounded by them
BLOCK = 1024  # elements of a program
KEPT_PLANS = 64  # of different lists of sizes, the least recently used one dropped first


class Plan(NamedTuple):
    """Where the tensors of a launch lie, and how its programs are shared out; int64 tensors on the device."""

    addresses: Tensor  # of weights, then of gradients, then of momenta
    sizes: Tensor
    ends: Tensor  # the number of programs up to the end of each tensor
    programs: int


# By sizes and device: the addresses as they were the last time, and the plan with them.
_plans: OrderedDict[tuple[bytes, torch.device], tuple[bytes, Plan]] = OrderedDict()


def refusal(params: Tensors, grads: Tensors, states: list[State], group: Group) -> str | None:
    """Why the parameters of a group cannot be stepped here, or None."""
    devices = {p.device for p in params}
    if len(devices) > 1:
        return f"parameters are on {' and '.join(sorted(map(str, devices)))}"
    if params[0].is_cuda and torch.cuda.is_current_stream_capturing():
        return "a CUDA graph is being captured, which would replay this step's rate and the places of its gradients"
    return launch.refusal(params, grads, states, group, KINDS) or trouble(params[0].device)


@functools.cache
def trouble(device: torch.device) -> str | None:
    """What goes wrong on a device, found out once by two steps of a few numbers beside the plain ones; or None."""
    group = OPTIONS | {"lr": 0.5, "betas": (0.9, 0.4), "weight_decay": 0.25}
    both: list[tuple[Tensor, State]] = []
    try:
        for way in (plain.each, update):
            weight, state = torch.ones(BLOCK + 9, device=device), {"exp_avg": torch.zeros(BLOCK + 9, device=device)}
            for start in (-1.0, -0.5):
                way([weight], [torch.linspace(start, 1, BLOCK + 9, device=device)], [state], group)
            both.append((weight, state))
        (one, its), (other, others) = both
        alike = torch.equal(one, other) and torch.allclose(its["exp_avg"], others["exp_avg"], rtol=1e-6, atol=1e-7)
    except Exception as error:  # no driver, no compiler for its launcher, a device it cannot compile for, ...
        return f"Triton's kernel failed on {device}: {error}".splitlines()[0]
    return None if alike else f"Triton's kernel has other results on {device}"


def update(params: Tensors, grads: Tensors, states: list[State], group: Group) -> None:
    """Algorithm 2 in one pass, in place, for parameters that `refusal` has nothing against."""
    kinds, left_out = launch.sorted_by_kind(params, grads, states, group)
    for kind, columns in kinds.items():
        run(plan(columns, params[0].device), kind, group)
    launch.finish(params, grads, states, group, left_out)


def plan(columns: Columns, device: torch.device) -> Plan:
    """The arrays for tensors of these sizes at these addresses, as they were the last time where nothing has changed.

    Memory is bounded by `KEPT_PLANS` lists of sizes, with 40 bytes for every tensor each.
    """
    *addresses, _, sizes, _ = columns
    key, now = (sizes.tobytes(), device), b"".join(column.tobytes() for column in addresses)
    if key in _plans:
        before, made = _plans.pop(key)
        if now != before:
            made = made._replace(addresses=on_device(now, device))
    else:
        ends = array("q", itertools.accumulate(-(-size // BLOCK) for size in sizes))
        arrays = [on_device(column, device) for column in (now, sizes.tobytes(), ends.tobytes())]
        made = Plan(arrays[0], arrays[1], arrays[2], ends[-1])
    _plans[key] = now, made
    if len(_plans) > KEPT_PLANS:
        _plans.popitem(last=False)
    return made


def on_device(column: bytes, device: torch.device) -> Tensor:
    """An int64 tensor of the same bits: what torch can copy."""
    host = torch.frombuffer(bytearray(column), dtype=torch.int64)
    if device.type == "cuda":
        host = host.pin_memory()  # torch keeps it until the copy is done
    return host.to(device, non_blocking=True)


def run(what: Plan, kind: Kind, group: Group) -> None:
    """Launch the kernel over a plan, if it holds any element."""
    if not what.programs:  # a shard of a few small tensors may have no element
        return
    flip = -1.0 if group["maximize"] else 1.0
    with torch.cuda.device(what.sizes.device) if what.sizes.is_cuda else nullcontext():
        step[(what.programs,)](
            what.addresses,
            what.sizes,
            what.ends,
            len(what.sizes),
            *map(float, launch.numbers(group)),
            flip,
            MEMORY[kind[0]],
            MEMORY[kind[1]],
            BLOCK,
            enable_fp_fusion=False,  # roundings as in the plain step, which is several kernels
        )


# Triton compiles what follows from its source; annotations it does not know, such as Any, it refuses.


@triton.jit
def lerp(start, end, weight):
    """The value start + weight · (end − start), from the nearer end, in one rounding as torch's."""
    near = tl.fma(end - start, weight, start)
    far = tl.fma(end - start, weight - 1.0, end)
    return tl.where(weight < 0.5, near, far)


@triton.jit
def widened(stored):
    """As float32, from memory."""
    x = stored
    if stored.dtype == tl.uint16:
        x = (stored.to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    return x


@triton.jit
def narrowed(x, T: tl.constexpr):
    """For memory: bfloat16 is rounded to nearest, ties to even, and has one NaN, as in torch."""
    stored = x
    if T == tl.uint16:  # noqa: SIM300
        bits = x.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        stored = tl.where(x == x, rounded, 0x7FC0).to(tl.uint16)
    return stored


@triton.jit
def tensor_of(program, ends, count):
    """The tensor that a program works on, by halving: the first one that ends behind it."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) // 2
        behind = tl.load(ends + middle) > program
        high = tl.where(behind, middle, high)
        low = tl.where(behind, low, middle + 1)
    return low


@triton.jit
def step(
    addresses,
    sizes,
    ends,
    count,
    lr,
    kept,
    kept_against,
    weight1,
    weight2,
    flip,
    W: tl.constexpr,
    M: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Algorithm 2 on up to BLOCK elements of one tensor. Addresses and elements are int64 throughout."""
    program = tl.program_id(0)
    tensor = tensor_of(program, ends, count)
    size = tl.load(sizes + tensor)
    first = (program - tl.load(ends + tensor) + tl.cdiv(size, BLOCK)) * BLOCK
    element = first + tl.arange(0, BLOCK)
    inside = element < size
    weight = tl.load(addresses + tensor).to(tl.pointer_type(W)) + element
    gradient = tl.load(addresses + count + tensor).to(tl.pointer_type(W)) + element
    momentum = tl.load(addresses + 2 * count + tensor).to(tl.pointer_type(M)) + element
    w = widened(tl.load(weight, inside, 0))
    g = widened(tl.load(gradient, inside, 0)) * flip
    m = widened(tl.load(momentum, inside, 0))
    c = lerp(m, g, weight1)
    if W == M:
        c = widened(narrowed(c, W))  # the arithmetic is in the wider of the two types
    sign = (c > 0).to(tl.float32) - (c < 0).to(tl.float32)
    kept_here = tl.where(sign * w < 0, kept_against, kept)
    left = widened(narrowed(w * kept_here, W))
    tl.store(weight, narrowed(left - lr * sign, W), inside)
    tl.store(momentum, narrowed(lerp(m, g, weight2), M), inside)
