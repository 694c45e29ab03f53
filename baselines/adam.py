"""Optax's Nesterov Adam and AMSGrad, which PyTorch and timm have only with another bias correction."""

import math
from collections.abc import Iterable
from typing import Any

import torch

from baselines.tensors import Baseline, Group, Tensors, check_at_least_zero, check_factors, decay, multiply, state_of


class _Adam(Baseline):
    """The settings of Adam and their checks."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""
        check_at_least_zero(**{name: settings[name] for name in ("lr", "eps", "weight_decay")})
        check_factors("betas", settings["betas"], 2)


class NAdamW(_Adam):
    r"""Adam with Nesterov momentum (Dozat 2016) as in Optax's nadamw: constant betas, decoupled weight decay.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        d_t &= \frac{\beta_1 m_t}{1 - \beta_1^{t+1}} + \frac{(1 - \beta_1) g_t}{1 - \beta_1^t} \\
        \theta_t &= \theta_{t-1} - \eta_t \left(\frac{d_t}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}
            + \lambda \theta_{t-1}\right)

    Args:
        params: parameters, or dictionaries that describe groups of them.
        lr: learning rate.
        betas: factors of the moving averages of the gradient and of its square.
        eps: added to the root of the second moment.
        weight_decay: coefficient of the decay, multiplied by the learning rate.

    Raises:
        ValueError: a value is out of its range.
    """

    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        states = [state_of(self, p, "exp_avg", "exp_avg_sq") for p in params]
        means, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        steps = [s["step"] for s in states]
        torch._foreach_lerp_(means, grads, 1 - beta1)
        multiply(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        scale = torch._foreach_sqrt(squares)
        torch._foreach_div_(scale, [math.sqrt(1 - beta2**t) for t in steps])
        torch._foreach_add_(scale, group["eps"])
        decay(params, group)
        torch._foreach_addcdiv_(params, means, scale, [-lr * beta1 / (1 - beta1 ** (t + 1)) for t in steps])
        torch._foreach_addcdiv_(params, grads, scale, [-lr * (1 - beta1) / (1 - beta1**t) for t in steps])


class AMSGrad(_Adam):
    r"""AMSGrad (Reddi et al. 2018) as in Optax: bias correction before the maximum; decoupled weight decay.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        u_t &= \max(u_{t-1}, v_t / (1 - \beta_2^t)) \\
        \theta_t &= \theta_{t-1} - \eta_t \left(\frac{m_t / (1 - \beta_1^t)}{\sqrt{u_t} + \epsilon}
            + \lambda \theta_{t-1}\right)

    Args:
        params: parameters, or dictionaries that describe groups of them.
        lr: learning rate.
        betas: factors of the moving averages of the gradient and of its square.
        eps: added to the root of the second moment's maximum.
        weight_decay: coefficient of the decay, multiplied by the learning rate.

    Raises:
        ValueError: a value is out of its range.
    """

    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        states = [state_of(self, p, "exp_avg", "exp_avg_sq", "max_exp_avg_sq") for p in params]
        means, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        largest, steps = [s["max_exp_avg_sq"] for s in states], [s["step"] for s in states]
        torch._foreach_lerp_(means, grads, 1 - beta1)
        multiply(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        torch._foreach_maximum_(largest, torch._foreach_div(squares, [1 - beta2**t for t in steps]))
        scale = torch._foreach_sqrt(largest)
        torch._foreach_add_(scale, group["eps"])
        decay(params, group)
        torch._foreach_addcdiv_(params, means, scale, [-lr / (1 - beta1**t) for t in steps])
