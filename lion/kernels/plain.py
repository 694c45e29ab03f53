"""The step in torch's own operations: what every other way is held against, and what runs where there is no other."""

from typing import Any

import torch
from torch import Tensor

from lion.kernels import memory

Tensors = list[Tensor]
Group = dict[str, Any]
State = dict[str, Any]  # of one parameter
LEAST_SHARE = 1e-3  # of a cautious update's mask, as in timm: what is left is scaled up a thousandfold at most


def each(params: Tensors, grads: Tensors, states: list[State], group: Group) -> None:
    """Algorithm 2, one tensor after the other."""
    beta1, beta2 = group["betas"]
    in_storage = group["momentum_arithmetic"] == "storage"
    for theta, g, state in zip(params, grads, states, strict=True):
        gradient = g.neg() if group["maximize"] else g
        if in_storage:
            stored = state["exp_avg"]
            update, momentum = (_interpolated_in_storage(stored, gradient, beta) for beta in (beta1, beta2))
            update = update.sign_()
        else:
            momentum = memory.widened(state, theta)
            gradient = gradient.to(momentum.dtype)
            update = momentum.lerp(gradient, 1 - beta1).sign_()
        update = _adapted(update, gradient, group)
        stochastic = group["stochastic_rounding"] and theta.dtype == torch.bfloat16
        # In 16 bits, torch's rounding of lr times what is not a sign depends on an element's place in memory.
        scaled = group["cautious"] or group["clip_rms"] is not None
        moved = theta.float() if stochastic or (scaled and theta.dtype.itemsize == 2) else theta
        _move(moved, update, group)
        if stochastic:
            memory.round_stochastically(theta, moved, state)
        elif moved is not theta:
            theta.copy_(moved)
        if not in_storage:
            momentum.lerp_(gradient, 1 - beta2)
        memory.store(state, momentum)


def lists(params: Tensors, grads: Tensors, states: list[State], group: Group) -> None:
    """Algorithm 2 over lists of tensors: one launch an operation where the device can."""
    lr, (beta1, beta2), kept = group["lr"], group["betas"], share_kept(group)
    momenta = [memory.widened(state, theta) for theta, state in zip(params, states, strict=True)]
    gradients = [g.to(m.dtype) for g, m in zip(grads, momenta, strict=True)]
    if group["maximize"]:
        gradients = list(torch._foreach_neg(gradients))
    updates = torch._foreach_lerp(momenta, gradients, 1 - beta1)
    torch._foreach_sign_(updates)
    if group["weight_decay"] and any(p.device.type == "cpu" for p in params):
        # On the CPU, lists are multiplied one by one anyway, by a number that is first rounded to each tensor's type.
        for p in params:
            p.mul_(kept)
    elif group["weight_decay"]:
        torch._foreach_mul_(params, kept)
    if isinstance(lr, Tensor):
        torch._foreach_mul_(updates, lr)
    torch._foreach_sub_(params, updates, alpha=1 if isinstance(lr, Tensor) else lr)
    torch._foreach_lerp_(momenta, gradients, 1 - beta2)
    for state, momentum in zip(states, momenta, strict=True):
        memory.store(state, momentum)


def share_kept(group: Group) -> float | Tensor:
    """The share of a weight that a step's decay leaves: 1 - lr·λ, or 1 - lr²·λ/lr_max where the decay is corrected."""
    lr = group["lr"]
    return 1 - (lr**2 / group["max_lr"] if group["corrected_decay"] else lr) * group["weight_decay"]


def why_one_by_one(group: Group) -> str | None:
    """The setting that `lists` does not know and `each` does, or None."""
    if group["momentum_arithmetic"] == "storage":
        return "momentum_arithmetic='storage'"
    named = ("cautious", "cautious_decay", "clip_rms", "stochastic_rounding")
    return next((name for name in named if group[name]), None)


def _interpolated_in_storage(momentum: Tensor, gradient: Tensor, beta: float) -> Tensor:
    """β·m + (1 − β)·g, each product in the type of its tensor and β rounded to it, the sum in the wider: as in JAX."""

    def product(tensor: Tensor, factor: float) -> Tensor:
        return tensor.mul(torch.tensor(factor, dtype=tensor.dtype).item())

    return product(momentum, beta) + product(gradient, 1 - beta)


def _adapted(update: Tensor, gradient: Tensor, group: Group) -> Tensor:
    """A sign update masked and scaled where the group asks for it, by means over the whole tensor.

    All entries are 0 or of one size, so the means follow from how many are not 0. A count is exact in any order: shards
    have the bits of the whole.
    """
    scale = None
    if group["cautious"]:
        update = torch.where(update * gradient > 0, update, 0.0)
        scale = _share(update).clamp(min=LEAST_SHARE).reciprocal().to(update.dtype)
        update.mul_(scale)
    if group["clip_rms"] is not None:
        rms = _share(update).sqrt() if scale is None else _share(update).sqrt() * scale
        update.div_((rms / group["clip_rms"]).clamp(min=1))
    return update


def _share(update: Tensor) -> Tensor:
    """The share of a tensor's elements that are not 0, over all its shards; NaN of no elements, as a mean is."""
    count: Any = (update != 0).sum()
    whole = count.full_tensor() if hasattr(count, "full_tensor") else count
    return whole.to(torch.promote_types(update.dtype, torch.float32)) / update.numel()


def _move(theta: Tensor, update: Tensor, group: Group) -> None:
    """Decay, then take the update's step of lr. Overwrites the update."""
    lr, kept = group["lr"], share_kept(group)
    if group["weight_decay"]:
        if group["cautious_decay"]:
            theta.copy_(torch.where(update * theta >= 0, theta * kept, theta))
        else:
            theta.mul_(kept)
    theta.sub_(update.mul_(lr)) if isinstance(lr, Tensor) else theta.sub_(update, alpha=lr)
