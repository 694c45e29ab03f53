"""PowerSign and AddSign (Bello et al. 2017, arXiv:1709.07417): optimizers found by an earlier search than Lion's."""

import math
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
    is_number,
    multiply,
    state_of,
)


class PowerSign(Baseline):
    r"""PowerSign: scales the gradient up where its sign agrees with its moving average, else down.

    .. math::
        m_t &= \beta m_{t-1} + (1 - \beta) g_t \\
        \theta_t &= \theta_{t-1} - \eta_t (\alpha^{\mathrm{sign}(g_t) \mathrm{sign}(m_t)} g_t + \lambda \theta_{t-1})

    The internal decay of the exponent, which the paper tries too, is left out.

    Args:
        params: parameters, or dictionaries that describe groups of them.
        lr: learning rate; the update grows with the gradient, so it is of SGD's size.
        beta: factor of the moving average of the gradient.
        alpha: base of the power, e in the paper.
        weight_decay: coefficient of the decay, multiplied by the learning rate.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        beta: float = 0.9,
        alpha: float = math.e,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, beta=beta, alpha=alpha, weight_decay=weight_decay)

    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""
        check_at_least_zero(lr=settings["lr"], weight_decay=settings["weight_decay"])
        check_factors("beta", [settings["beta"]], 1)
        if not (is_number(settings["alpha"]) and settings["alpha"] > 0):
            raise ValueError(f"alpha={settings['alpha']} must be a finite number above 0")

    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""
        factor = _agreement(self, params, grads, group["beta"])
        multiply(factor, math.log(group["alpha"]))
        torch._foreach_exp_(factor)
        decay(params, group)
        torch._foreach_addcmul_(params, factor, grads, -float(group["lr"]))


class AddSign(Baseline):
    r"""AddSign: adds the gradient's sign agreement with its moving average (1, -1 or 0) to the factor of the gradient.

    .. math::
        m_t &= \beta m_{t-1} + (1 - \beta) g_t \\
        \theta_t &= \theta_{t-1} - \eta_t ((\alpha + \mathrm{sign}(g_t) \mathrm{sign}(m_t)) g_t + \lambda \theta_{t-1})

    The internal decay of the signs' part, which the paper tries too, is left out.

    Args:
        params: parameters, or dictionaries that describe groups of them.
        lr: learning rate; the update grows with the gradient, so it is of SGD's size.
        beta: factor of the moving average of the gradient.
        alpha: the gradient's own share, 1 in the paper.
        weight_decay: coefficient of the decay, multiplied by the learning rate.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        beta: float = 0.9,
        alpha: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, beta=beta, alpha=alpha, weight_decay=weight_decay)

    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""
        check_at_least_zero(**{name: settings[name] for name in ("lr", "alpha", "weight_decay")})
        check_factors("beta", [settings["beta"]], 1)

    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""
        factor = _agreement(self, params, grads, group["beta"])
        torch._foreach_add_(factor, group["alpha"])
        decay(params, group)
        torch._foreach_addcmul_(params, factor, grads, -float(group["lr"]))


def _agreement(optimizer: Baseline, params: Tensors, grads: Tensors, beta: float) -> Tensors:
    """Update the averages and return 1 where gradient and average agree in sign, -1 where not, 0 where one is 0."""
    means = [state_of(optimizer, p, "exp_avg")["exp_avg"] for p in params]
    torch._foreach_lerp_(means, grads, 1 - beta)
    agreement = torch._foreach_sign(means)
    torch._foreach_mul_(agreement, torch._foreach_sign(grads))
    return list(agreement)
