"""What the one-pass kernels have in common: which tensors they can take, and what they are told of them."""

from array import array
from typing import Any

import torch
from torch import Tensor

from lion.kernels import memory, plain

PLAIN = (Tensor, torch.nn.Parameter, torch.nn.Buffer)  # a subclass may have no memory of its own
Tensors = list[Tensor]
Group = dict[str, Any]
State = dict[str, Any]
Kind = tuple[
    torch.dtype, torch.dtype, bool
]  # of weight (and gradient) and momentum, and stochastic rounding of weights
# Of tensors that go together, an element each: addresses of weight, gradient, momentum and scales; size; noise word.
Columns = list["array[int]"]


def refusal(params: Tensors, grads: Tensors, states: list[State], group: Group, kinds: Any) -> str | None:
    """Why kernels of these `kinds` cannot step the parameters of a group, whatever the device, or None."""
    if isinstance(group["lr"], Tensor):
        return "lr is a tensor"
    if torch.compiler.is_compiling():
        return "the step is being compiled"
    for setting in ("cautious", "clip_rms"):
        if group[setting]:
            return f"{setting} takes a mean over the tensor before a weight moves, so one pass cannot do it"
    if group["momentum_arithmetic"] == "storage":
        return "momentum_arithmetic='storage' has no kernel"
    for p, g, state in zip(params, grads, states, strict=True):
        if type(p) not in PLAIN and not hasattr(p, "to_local"):
            return f"a parameter is a {type(p).__name__}"
        if kind(p, state, group) not in kinds or g.dtype != p.dtype:
            rounded = ", rounded stochastically" if group["stochastic_rounding"] else ""
            types = f"{p.dtype}, gradients of {g.dtype}, momentum of {state['exp_avg'].dtype}{rounded}"
            return f"there is no kernel for {types}"
    return None


def kind(p: Tensor, state: State, group: Group) -> Kind:
    """Which kernel a parameter needs."""
    return p.dtype, state["exp_avg"].dtype, group["stochastic_rounding"] and p.dtype == torch.bfloat16


def sorted_by_kind(
    params: Tensors, grads: Tensors, states: list[State], group: Group
) -> tuple[dict[Kind, Columns], list[int]]:
    """What each kernel has to be told, and the places of parameters that none can take.

    Those are the ones whose gradient or momentum lies otherwise in memory than the weight, or whose gradient's memory
    holds the negative.
    """
    kinds: dict[Kind, Columns] = {}
    left_out = []
    for place, state in enumerate(states):
        p, g, m = local(params[place]), local(grads[place]), local(state["exp_avg"])
        int8 = m.dtype == torch.int8
        together = p.is_contiguous() and g.is_contiguous() and m.is_contiguous()
        its_kind = kind(params[place], state, group)
        first = memory.first_element(params[place]) if its_kind[2] else 0
        # Blocks of int8 and the noise of rounding count elements in the order of indices.
        # Autograd may mark a gradient as negative while its memory holds the positive.
        if first is None or g.is_neg() or not (together or (not int8 and not its_kind[2] and alike(p, g, m))):
            left_out.append(place)
            continue
        columns = kinds.get(its_kind)
        if columns is None:
            columns = kinds[its_kind] = [array(code) for code in "QQQQqq"]
        scales = state["exp_avg_scale"].data_ptr() if int8 else 0
        word = memory.next_rounding(state) + first if its_kind[2] else 0
        row = p.data_ptr(), g.data_ptr(), m.data_ptr(), scales, p.numel(), word
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return kinds, left_out


def finish(params: Tensors, grads: Tensors, states: list[State], group: Group, left_out: list[int]) -> None:
    """Step those that were left out plainly, and have autograd know that all have changed."""
    torch.autograd.graph.increment_version(params)  # as every operation in place does
    if left_out:
        rest, their_grads = ([tensors[place] for place in left_out] for tensors in (params, grads))
        plain.each(rest, their_grads, [states[place] for place in left_out], group)


def numbers(group: Group) -> tuple[float, float, float, float, float]:
    """lr, the shares of a weight that decay leaves where the step is not against it and where it is, 1 - betas."""
    (beta1, beta2), kept = group["betas"], float(plain.share_kept(group))
    return group["lr"], kept, 1.0 if group["cautious_decay"] else kept, 1 - beta1, 1 - beta2


def local(tensor: Tensor) -> Tensor:
    """A shard's own part of a DTensor; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def alike(*tensors: Tensor) -> bool:
    """Whether elements that belong together lie at the same distance from each tensor's start, without gaps."""
    first = tensors[0]
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(first.stride(), first.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return all(tensor.stride() == first.stride() for tensor in tensors)
