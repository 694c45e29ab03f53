"""What a parameter's state holds, in how many bytes, and how it is rounded on the way in.

The momentum is a tensor of the parameter's shape, `exp_avg`. As int8 it is quantised in blocks of 256 elements, counted
over the flattened tensor: each block has a float32 scale, its largest absolute value over 127, in `exp_avg_scale`, so
a parameter takes 1 + 4/256 bytes. A block that holds a NaN or an infinity is NaN from then on.

Stochastic rounding of bfloat16 weights takes its noise from a hash of (parameter, step, element), not from a generator:
replicas of a model then round alike whatever each process's generators do, a resumed run has the same bits, and every
backend can make the same noise. What is hashed for parameter and step is kept in the state, as `rounding`. Elements are
counted over the whole parameter in the order of indices, whatever its layout in memory, so a shard of a DTensor has the
noise that its elements have unsharded.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 256  # elements that share a scale
LEVELS = 127  # of int8 on either side of zero
WORD, GOLDEN = 0xFFFF_FFFF, 0x9E37_79B9  # 32 bits; 2^32 over the golden ratio
PIECE = 2**22  # elements rounded at once: the noise takes some 50 bytes for each while it is made
State = dict[str, Any]


def initial(p: Tensor, group: dict[str, Any], position: int) -> State:
    """The state of a parameter before its first step; `position` is its number among the optimizer's parameters."""
    dtype = storage_dtype(group, p)
    state: State = {"exp_avg": torch.zeros_like(p, dtype=dtype)}
    if dtype == torch.int8:
        if hasattr(p, "to_local"):
            raise RuntimeError("momentum_dtype=int8 needs whole parameters, not shards: take bfloat16 there")
        state["exp_avg"] = torch.zeros_like(p, dtype=dtype, memory_format=torch.contiguous_format)
        state["exp_avg_scale"] = torch.zeros(-(-p.numel() // BLOCK), device=p.device)
    if group["stochastic_rounding"]:
        state["rounding"] = hash_word(position)
    return state


def loaded(saved: State, p: Tensor, group: dict[str, Any], position: int) -> State:
    """The state of a parameter as a checkpoint gives it, copied, in the type that the group names."""
    state, momentum = initial(p, group, position), saved["exp_avg"]
    if momentum.dtype != torch.int8:
        exact = momentum.to(p.device)
    elif state["exp_avg"].dtype == torch.int8:
        state["exp_avg"].copy_(momentum)
        state["exp_avg_scale"].copy_(saved["exp_avg_scale"])
        exact = None
    else:
        exact = dequantised(momentum, saved["exp_avg_scale"]).to(p.device)
    if exact is not None and "exp_avg_scale" in state:
        quantise(exact.float(), state["exp_avg"], state["exp_avg_scale"])
    elif exact is not None:
        state["exp_avg"] = exact.to(state["exp_avg"].dtype, copy=True)
    if "rounding" in state:
        state["rounding"] = int(saved["rounding"] if "rounding" in saved else state["rounding"])
    return state


def storage_dtype(group: dict[str, Any], p: Tensor) -> torch.dtype:
    """The type that a group's momenta are stored in."""
    dtype: torch.dtype = getattr(torch, group["momentum_dtype"] or "", p.dtype)
    return dtype


def widened(state: State, theta: Tensor) -> Tensor:
    """The momentum in the wider of its type and the parameter's: the stored tensor itself, or a copy to work on."""
    momentum: Tensor = state["exp_avg"]
    if momentum.dtype == torch.int8:
        momentum = dequantised(momentum, state["exp_avg_scale"])
    return momentum.to(torch.promote_types(theta.dtype, momentum.dtype))


def store(state: State, momentum: Tensor) -> None:
    """Put back what `widened` gave."""
    stored: Tensor = state["exp_avg"]
    if stored.dtype == torch.int8:
        quantise(momentum.float(), stored, state["exp_avg_scale"])
    elif momentum is not stored:
        stored.copy_(momentum)


def dequantised(values: Tensor, scales: Tensor) -> Tensor:
    """The float32 tensor that int8 `values` and the `scales` of their blocks stand for."""
    repeated = scales.repeat_interleave(BLOCK)[: values.numel()]
    return values.float().mul_(repeated.view(values.shape))


def quantise(tensor: Tensor, values: Tensor, scales: Tensor) -> None:
    """Round a float32 tensor to the nearest of 255 levels in each block, into `values` and `scales`."""
    blocks = pad(tensor.flatten(), (0, -tensor.numel() % BLOCK)).view(len(scales), BLOCK)
    scale = blocks.abs().amax(1).div_(LEVELS)
    scale = torch.where(scale.isfinite(), scale, torch.nan)
    levels = blocks.div(scale.unsqueeze(1)).clamp_(-LEVELS, LEVELS).round_()
    levels = torch.where(scale.unsqueeze(1) > 0, levels, 0)  # blocks of zeros, and those that are NaN
    values.copy_(levels.flatten()[: values.numel()].view(values.shape))
    scales.copy_(scale)


def round_stochastically(theta: Tensor, exact: Tensor, state: State) -> None:
    """Write float32 `exact` into bfloat16 `theta`, up or down with the chance that makes the mean right.

    16 random bits are added to the 16 that bfloat16 drops. NaN and infinities stay what they are.
    """
    if theta.ndim == 0:
        theta, exact = theta.view(1), exact.view(1)
    word, rows = next_rounding(state), max(1, PIECE // max(1, math.prod(theta.shape[1:])))
    rounded, wanted = (t.to_local() if hasattr(t, "to_local") else t for t in (theta, exact))
    for begin in range(0, len(rounded), rows):
        piece = wanted[begin : begin + rows]
        noise = (hash_word(numbered(theta, begin, begin + rows) + word) & 0xFFFF).to(torch.int32)
        bits = (piece.view(torch.int32) + noise) & -0x10000
        rounded[begin : begin + rows] = torch.where(piece.isfinite(), bits.view(torch.float32), piece)


def numbered(theta: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
    """The number of each element among all of the parameter, for rows [begin, end) of this process's part."""
    part = (theta.to_local() if hasattr(theta, "to_local") else theta)[begin:end]
    starts = [start + begin * (axis == 0) for axis, start in enumerate(offset(theta))]
    numbers = torch.zeros((), dtype=torch.int64, device=part.device)
    for axis, (start, size) in enumerate(zip(starts, part.shape, strict=True)):
        indices = torch.arange(start, start + size, device=part.device) * math.prod(theta.shape[axis + 1 :])
        numbers = numbers.unsqueeze(-1) + indices
    return numbers


def first_element(theta: Tensor) -> int | None:
    """The number of the first element here, where those that are here follow each other; None where they do not."""
    if not hasattr(theta, "to_local"):
        return 0
    if theta.to_local().shape[1:] != theta.shape[1:]:
        return None
    return sum(offset(theta)[:1]) * math.prod(theta.shape[1:])


def offset(theta: Tensor) -> tuple[int, ...]:
    """The index, in the whole parameter, of the first element of this process's part.

    Raises:
        RuntimeError: a DTensor is placed otherwise than replicated or sharded in torch's chunks.
    """
    starts, sizes = [0] * theta.ndim, list(theta.shape)
    if hasattr(theta, "to_local"):
        from torch.distributed.tensor import Replicate, Shard

        mesh: Any = theta.device_mesh  # type: ignore[attr-defined]
        for axis, placement in enumerate(theta.placements):  # type: ignore[attr-defined]
            if type(placement) is Shard:
                dim, chunk = placement.dim, -(-sizes[placement.dim] // mesh.size(axis))
                before = min(mesh.get_local_rank(axis) * chunk, sizes[dim])
                starts[dim] += before
                sizes[dim] = min(chunk, sizes[dim] - before)
            elif type(placement) is not Replicate:
                raise RuntimeError(f"stochastic_rounding does not know which elements are here under {placement!r}")
        if sizes != (here := list(theta.to_local().shape)):
            raise RuntimeError(f"stochastic_rounding expected a part of shape {sizes}, not {here}")
    return tuple(starts)


def next_rounding(state: State) -> int:
    """The word that starts this step's noise of a parameter; the state goes on to the next step's."""
    word: int = state.get("rounding", 0)
    state["rounding"] = (word + GOLDEN) & WORD  # meets every word before it repeats
    mixed: int = hash_word(word)
    return mixed


def hash_word(word: Any) -> Any:
    """32 bits mixed from an integer or a tensor of them (int64), each as good as random.

    Two rounds of shift and multiply with constants of low bias (Wellons 2018, "Prospecting for Hash Functions").
    """
    word = word & WORD
    word = ((word ^ (word >> 16)) * 0x7FEB352D) & WORD
    word = ((word ^ (word >> 15)) * 0x846CA68B) & WORD
    return word ^ (word >> 16)
