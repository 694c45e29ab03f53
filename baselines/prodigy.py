"""Prodigy: Adam with an estimated learning rate."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from baselines.tensors import (
    Baseline,
    Group,
    Tensors,
    check_at_least_zero,
    check_factors,
    check_gradients,
    decay,
    is_number,
    state_of,
    with_gradients,
)


class Prodigy(Baseline):
    r"""Prodigy (Mishchenko & Defazio 2023, arXiv:2306.06101) as in the authors' code, without bias correction.

    The learning rate :math:`d` grows with a lower bound of the distance from the start :math:`\theta_0` to the
    solution, estimated over all parameters together; the schedule multiplies it. With :math:`\beta_3 = \sqrt{\beta_2}`:

    .. math::
        r_t &= \beta_3 r_{t-1} + \eta_t d_t^2 \langle g_t, \theta_0 - \theta_{t-1} \rangle, \qquad
            s_t = \beta_3 s_{t-1} + \eta_t d_t^2 g_t, \qquad d_{t+1} = \max(d_t, r_t / \lVert s_t \rVert_1) \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) d_t g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) d_t^2 g_t^2 \\
        \theta_t &= \theta_{t-1} - \eta_t d_t \left(\frac{m_t}{\sqrt{v_t} + d_{t+1} \epsilon}
            + \lambda \theta_{t-1}\right)

    The decay is decoupled, multiplied by the estimated learning rate. 16 bytes of state a float32 parameter.

    Args:
        params: parameters, or dictionaries that describe groups of them, all with the same learning rate.
        lr: multiplies the estimate; 1 in the paper.
        betas: factors of the moving averages of the gradient and of its square.
        eps: added to the root of the second moment, times d.
        weight_decay: coefficient of the decay, multiplied by lr and d.
        d0: the first estimate; any value far below the right learning rate.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        d0: float = 1e-6,
    ) -> None:
        # d and r are the same in every group: so they are in state dictionaries.
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, d0=d0, d=d0, r=0.0)

    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""
        check_at_least_zero(**{name: settings[name] for name in ("lr", "eps", "weight_decay")})
        check_factors("betas", settings["betas"], 2)
        if not (is_number(settings["d0"]) and settings["d0"] > 0):
            raise ValueError(f"d0={settings['d0']} must be a finite number above 0")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Estimate the learning rate over all parameters, then update those that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        check_gradients(self.param_groups)
        first = self.param_groups[0]
        d, d0, beta3 = first["d"], first["d0"], math.sqrt(first["betas"][1])
        r, norm = beta3 * first["r"], 0.0
        for group in self.param_groups:
            lr = float(group["lr"])
            for params, grads in with_gradients(group):
                for p, grad in zip(params, grads, strict=True):
                    state = state_of(self, p, "exp_avg", "exp_avg_sq", "s")
                    if "start" not in state:
                        state["start"] = p.clone()
                    # Divided by d0: squares of learning rates of 1e-6 are below float32's precision in sums with other
                    # numbers.
                    r += d / d0 * d * lr * float((grad * (state["start"] - p)).sum())
                    state["s"].mul_(beta3).add_(grad, alpha=d / d0 * d * lr)
                    norm += float(state["s"].abs().sum())
        larger = max(d, r / norm) if norm > 0 else d
        for group in self.param_groups:
            group["d"], group["r"] = larger, r
            for params, grads in with_gradients(group):
                self.update({**group, "lr": d * float(group["lr"]), "step_d": d}, params, grads)
        return loss

    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update parameters by their gradients with the estimated learning rate, in place."""
        (beta1, beta2), d = group["betas"], group["step_d"]
        decay(params, group)
        for p, grad in zip(params, grads, strict=True):
            state = self.state[p]
            state["exp_avg"].mul_(beta1).add_(grad, alpha=(1 - beta1) * d)
            state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=(1 - beta2) * d * d)
            scale = state["exp_avg_sq"].sqrt().add_(group["d"] * group["eps"])
            p.addcdiv_(state["exp_avg"], scale, value=-group["lr"])
