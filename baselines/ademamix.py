"""AdEMAMix: Adam with a second, slow moving average of the gradient."""

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


class AdEMAMix(Baseline):
    r"""AdEMAMix (Pagliardini et al. 2024, arXiv:2409.03137, Algorithm 1).

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
            n_t = \beta_3(t) n_{t-1} + (1 - \beta_3(t)) g_t, \qquad
            v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \eta_t \left(\frac{m_t / (1 - \beta_1^t) + \alpha(t) n_t}
            {\sqrt{v_t / (1 - \beta_2^t)} + \epsilon} + \lambda \theta_{t-1}\right)

    Over the first `warmup_steps` :math:`\alpha(t)` rises in a line from 0, and :math:`\beta_3(t)` from
    :math:`\beta_1`, so that the half-life of the slow average rises in a line. 12 bytes of state a float32 parameter.

    Args:
        params: parameters, or dictionaries that describe groups of them.
        lr: learning rate.
        betas: factors of the moving averages of the gradient (fast), of its square, and of the gradient (slow).
        eps: added to the root of the second moment.
        weight_decay: coefficient of the decay, multiplied by the learning rate.
        alpha: weight of the slow average; the fast one's is 1.
        warmup_steps: T of the paper, in which both rise; None or 0 for none.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        alpha: float = 8.0,
        warmup_steps: int | None = None,
    ) -> None:
        extra = {"alpha": alpha, "warmup_steps": warmup_steps}
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **extra)

    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""
        check_at_least_zero(**{name: settings[name] for name in ("lr", "eps", "weight_decay", "alpha")})
        check_factors("betas", settings["betas"], 3)
        beta1, _, beta3 = settings["betas"]
        warmup = settings["warmup_steps"]
        if warmup is not None and not (is_number(warmup) and warmup >= 0):
            raise ValueError(f"warmup_steps={warmup} must be a number of at least 0, or None")
        if warmup and not 0 < beta1 <= beta3:
            raise ValueError(f"betas={list(settings['betas'])}: with warmup_steps the third rises from the first")

    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""
        lr, (beta1, beta2, _) = float(group["lr"]), group["betas"]
        states = [state_of(self, p, "exp_avg", "exp_avg_slow", "exp_avg_sq") for p in params]
        fast, slow, squares = ([s[name] for s in states] for name in ("exp_avg", "exp_avg_slow", "exp_avg_sq"))
        steps = [s["step"] for s in states]
        rising = [_at(step, group) for step in steps]
        torch._foreach_lerp_(fast, grads, 1 - beta1)
        for average, grad, (_, beta3) in zip(slow, grads, rising, strict=True):
            average.lerp_(grad, 1 - beta3)
        multiply(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        scale = torch._foreach_sqrt(squares)
        torch._foreach_div_(scale, [math.sqrt(1 - beta2**t) for t in steps])
        torch._foreach_add_(scale, group["eps"])
        decay(params, group)
        torch._foreach_addcdiv_(params, fast, scale, [-lr / (1 - beta1**t) for t in steps])
        torch._foreach_addcdiv_(params, slow, scale, [-lr * alpha for alpha, _ in rising])


def _at(step: int, group: Group) -> tuple[float, float]:
    """Weight and factor of the slow average at a step, the first of which is 1."""
    beta1, _, beta3 = group["betas"]
    if not group["warmup_steps"] or step >= group["warmup_steps"]:
        return group["alpha"], beta3
    share = step / group["warmup_steps"]
    # The paper's formula: half-lives, nearly -1 / log(beta), are interpolated.
    rate = 1 / ((1 - share) / math.log(beta1) + share / math.log(beta3))
    return group["alpha"] * share, math.exp(rate)
