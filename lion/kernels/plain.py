"""The step in torch's own operations: what every other way is held against, and what runs where there is no other."""

from typing import Any

import torch
from torch import Tensor

from lion.kernels import memory

Tensors = list[Tensor]
Group = dict[str, Any]
State = dict[str, Any]  # of one parameter
ONE_BY_ONE = ("cautious", "cautious_decay", "clip_rms", "stochastic_rounding")  # settings that `lists` does not know
LEAST_SHARE = 1e-3  # of a cautious update's mask, as in timm: what is left is scaled up a thousandfold at most


def each(params: Tensors, grads: Tensors, states: list[State], group: Group) -> None:
    """Algorithm 2, one tensor after the other."""
    beta1, beta2 = group["betas"]
    for theta, g, state in zip(params, grads, states, strict=True):
        momentum = memory.widened(state, theta)
        gradient = (g.neg() if group["maximize"] else g).to(momentum.dtype)
        update = momentum.lerp(gradient, 1 - beta1).sign_()
        _adapt(update, gradient, group)
        if group["stochastic_rounding"] and theta.dtype == torch.bfloat16:
            moved = theta.float()
            _move(moved, update, group)
            memory.round_stochastically(theta, moved, state)
        else:
            _move(theta, update, group)
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
    if group["weight_decay"]:
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


def _adapt(update: Tensor, gradient: Tensor, group: Group) -> None:
    """Mask and scale a sign update, in place, where the group asks for it. The means are over one tensor."""
    if group["cautious"]:
        agree = (update * gradient > 0).to(gradient.dtype)
        agree.div_(_mean(agree).clamp_(min=LEAST_SHARE))
        update.mul_(agree)
    if group["clip_rms"] is not None:
        update.div_((_mean(update.square()).sqrt_() / group["clip_rms"]).clamp_(min=1))


def _mean(tensor: Tensor) -> Tensor:
    return tensor.mean(dtype=torch.promote_types(tensor.dtype, torch.float32))


def _move(theta: Tensor, update: Tensor, group: Group) -> None:
    """Decay, then take the update's step of lr. Overwrites the update."""
    lr, kept = group["lr"], share_kept(group)
    if group["weight_decay"]:
        if group["cautious_decay"]:
            theta.copy_(torch.where(update * theta >= 0, theta * kept, theta))
        else:
            theta.mul_(kept)
    theta.sub_(update.mul_(lr)) if isinstance(lr, Tensor) else theta.sub_(update, alpha=lr)
