"""Gradient descent with momentum and decoupled weight decay, which torch.optim.SGD couples."""

from collections.abc import Iterable
from typing import Any

import torch

from baselines.tensors import (
    Baseline,
    Group,
    Tensors,
    check_at_least_zero,
    check_factors,
    decay,
    multiply,
    state_of,
)


class SGDW(Baseline):
    r"""SGDW (Loshchilov & Hutter 2019, arXiv:1711.05101): the weight decay is not part of the momentum.

    .. math::
        m_t &= \mu m_{t-1} + g_t \\
        \theta_t &= \theta_{t-1} - \eta_t (m_t + \lambda \theta_{t-1})

    with :math:`g_t + \mu m_t` in place of :math:`m_t` in the second line where `nesterov` is set. Momentum as in
    torch.optim.SGD and Optax's trace: no dampening, so a step is up to :math:`1 / (1 - \mu)` gradients long.

    Args:
        params: parameters, or dictionaries that describe groups of them.
        lr: learning rate.
        momentum: share of the last momentum that the next one keeps; 0 keeps no buffer.
        weight_decay: coefficient of the decay, multiplied by the learning rate.
        nesterov: look ahead by one step of the momentum.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""
        check_at_least_zero(lr=settings["lr"], weight_decay=settings["weight_decay"])
        check_factors("momentum", [settings["momentum"]], 1)
        if not isinstance(settings["nesterov"], bool):
            raise ValueError(f"nesterov={settings['nesterov']} must be True or False")
        if settings["nesterov"] and not settings["momentum"]:
            raise ValueError("nesterov=True changes nothing with momentum=0: give a momentum above 0")

    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""
        momentum = group["momentum"]
        update = grads
        if momentum > 0:
            update = [state_of(self, p, "momentum_buffer")["momentum_buffer"] for p in params]
            multiply(update, momentum)
            torch._foreach_add_(update, grads)
            if group["nesterov"]:
                update = list(torch._foreach_add(grads, update, alpha=momentum))
        decay(params, group)
        torch._foreach_add_(params, update, alpha=-float(group["lr"]))
