"""LionMuon: Lion's update direction, periodically orthogonalized as in Muon."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from baselines.tensors import Baseline, Group, Tensors, check_at_least_zero, check_factors, decay, state_of

# Of the quintic that Muon's authors fit to bring singular values near 1 in few steps.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class LionMuon(Baseline):
    r"""LionMuon (arXiv:2605.19811, as in the authors' code), for matrices.

    .. math::
        c_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad m_t = \beta_2 m_{t-1} + (1 - \beta_2) g_t \\
        u_t &= 0.2 \sqrt{\max(\mathrm{rows}, \mathrm{columns})}\, \mathrm{NS}(c_t)
            \quad\text{in steps 1, 1 + P, 1 + 2P, ...,} \qquad u_t = \rho\, \mathrm{sign}(c_t) \quad\text{in others} \\
        \theta_t &= \theta_{t-1} - \eta_t (u_t + \lambda \theta_{t-1})

    where NS is Newton and Schulz's iteration in bfloat16, which brings all singular values near 1. The authors multiply
    the decay of a sign step by the ratio, too; here it is the same in every step. One buffer a parameter, 4 bytes in
    float32.

    Args:
        params: parameters of two axes, or dictionaries that describe groups of them.
        lr: learning rate of the orthogonalized steps.
        betas: shares of the old momentum in the direction and in the next momentum.
        weight_decay: coefficient of the decay, multiplied by the learning rate.
        sign_lr_ratio: learning rate of the sign steps over `lr`.
        period: P, so many steps from one that is orthogonalized to the next; 1 for Muon with Lion's momentum.
        ns_steps: iterations of Newton and Schulz.

    Raises:
        ValueError: a value is out of its range, or a parameter does not have two axes.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        weight_decay: float = 0.0,
        sign_lr_ratio: float = 0.01,
        period: int = 5,
        ns_steps: int = 6,
    ) -> None:
        extra = {"sign_lr_ratio": sign_lr_ratio, "period": period, "ns_steps": ns_steps}
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, **extra)

    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""
        check_at_least_zero(**{name: settings[name] for name in ("lr", "weight_decay", "sign_lr_ratio")})
        check_factors("betas", settings["betas"], 2)
        for name in ("period", "ns_steps"):
            if not isinstance(settings[name], int) or settings[name] < 1:
                raise ValueError(f"{name}={settings[name]} must be a whole number of at least 1")
        for p in settings["params"]:
            if p.ndim != 2:
                raise ValueError(f"LionMuon steps matrices, and a parameter has the shape {list(p.shape)}")

    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        decay(params, group)
        for p, grad in zip(params, grads, strict=True):
            state = state_of(self, p, "exp_avg")
            direction = state["exp_avg"].lerp(grad, 1 - beta1)
            if (state["step"] - 1) % group["period"]:
                p.add_(direction.sign(), alpha=-lr * group["sign_lr_ratio"])
            else:
                scale = 0.2 * max(p.shape) ** 0.5
                p.add_(orthogonalized(direction, group["ns_steps"]).to(p.dtype), alpha=-lr * scale)
            state["exp_avg"].lerp_(grad, 1 - beta2)


def orthogonalized(matrix: Tensor, steps: int) -> Tensor:
    """Bring a matrix's singular values near 1, by an odd polynomial of it in bfloat16; [m, n] to bfloat16 [m, n]."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.mT if tall else matrix).bfloat16()
    x = x / x.norm().clamp(min=1e-7)  # the largest singular value is at most 1
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
