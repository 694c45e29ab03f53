"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from baselines.axes import exact_products, gram, multiply_axis
from baselines.tensors import Baseline, Group, Tensors, check_at_least_zero, check_factors, decay, state_of


class SOAP(Baseline):
    r"""SOAP (Vyas et al. 2024, arXiv:2409.11321, Algorithm 3), for tensors of any number of axes.

    For a matrix, with :math:`L_t = \beta_2 L_{t-1} + (1 - \beta_2) G_t G_t^\top`, :math:`R_t` likewise of
    :math:`G_t^\top G_t`, and their eigenvectors :math:`Q_L, Q_R` as of the last steps in which they were computed:

    .. math::
        M_t &= \beta_1 M_{t-1} + (1 - \beta_1) G_t, \qquad
            V_t = \beta_2 V_{t-1} + (1 - \beta_2) (Q_L^\top G_t Q_R)^2 \\
        W_t &= W_{t-1} - \eta_t \left(\frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \,
            Q_L \frac{Q_L^\top M_t Q_R}{\sqrt{V_t} + \epsilon} Q_R^\top + \lambda W_{t-1}\right)

    As in the authors' code, the first gradient only makes the preconditioner (the weights decay, and t counts from the
    second step on), the first basis is an exact eigendecomposition and later ones are a step of power iteration with a
    QR decomposition, and vectors are stepped by Adam. The state of an m × n matrix is 2mn + 2m² + 2n² numbers.

    Args:
        params: parameters, or dictionaries that describe groups of them.
        lr: learning rate.
        betas: factors of the moving averages of the gradient, and of its square and the preconditioners.
        eps: added to the root of the second moment.
        weight_decay: coefficient of the decay, multiplied by the learning rate.
        precondition_frequency: steps from one basis to the next.
        max_precondition_dim: an axis that is longer is not preconditioned and keeps no matrices.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        precondition_frequency: int = 10,
        max_precondition_dim: int = 10_000,
    ) -> None:
        settings = {"precondition_frequency": precondition_frequency, "max_precondition_dim": max_precondition_dim}
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **settings)

    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""
        check_at_least_zero(**{name: settings[name] for name in ("lr", "eps", "weight_decay", "max_precondition_dim")})
        check_factors("betas", settings["betas"], 2)
        if settings["precondition_frequency"] < 1:
            raise ValueError(f"precondition_frequency={settings['precondition_frequency']} must be at least 1")

    @exact_products()
    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        decay(params, group)
        for p, grad in zip(params, grads, strict=True):
            state = state_of(self, p, "exp_avg", "exp_avg_sq")
            axes = _preconditioned_axes(p, group["max_precondition_dim"])
            step = state["step"] - 1  # updates, of which the first gradient makes none
            if step == 0:
                for axis in axes:
                    products = (1 - beta2) * gram(grad, axis)
                    state[f"gram{axis}"], state[f"basis{axis}"] = products, _eigenvectors(products)
                continue
            bases = {axis: state[f"basis{axis}"] for axis in axes}
            state["exp_avg"].lerp_(grad, 1 - beta1)
            state["exp_avg_sq"].lerp_(_rotated(grad, bases).square(), 1 - beta2)
            adam = _rotated(state["exp_avg"], bases) / state["exp_avg_sq"].sqrt().add_(group["eps"])
            size = lr * math.sqrt(1 - beta2**step) / (1 - beta1**step)
            p.add_(_rotated(adam, {axis: basis.mT for axis, basis in bases.items()}), alpha=-size)
            for axis in axes:
                state[f"gram{axis}"].lerp_(gram(grad, axis), 1 - beta2)
            if step % group["precondition_frequency"] == 0:
                for axis in axes:
                    _turn(state, axis)


def _preconditioned_axes(p: Tensor, most: int) -> list[int]:
    return [axis for axis, size in enumerate(p.shape) if size <= most] if p.ndim > 1 else []


def _rotated(tensor: Tensor, bases: dict[int, Tensor]) -> Tensor:
    """A tensor in other bases of some of its axes."""
    for axis, basis in bases.items():
        tensor = multiply_axis(tensor, axis, basis)
    return tensor


def _eigenvectors(products: Tensor) -> Tensor:
    """Those of the largest eigenvalues first.

    In float64: a first gradient has a low rank, an embedding's rows of words that no example had, and the decomposition
    may not converge in float32. LAPACK refuses values that are not finite: they count as zeros here, and reach the
    weights by the products.
    """
    return torch.linalg.eigh(products.double().nan_to_num(0, 0, 0))[1].flip(1).to(products.dtype)


def _turn(state: dict[str, Any], axis: int) -> None:
    """Bring a basis nearer to the eigenvectors, and the second moment into the order of their eigenvalues."""
    basis, product = state[f"basis{axis}"], state[f"gram{axis}"] @ state[f"basis{axis}"]
    order = (basis * product).sum(0).argsort(descending=True)
    state["exp_avg_sq"] = state["exp_avg_sq"].index_select(axis, order)
    state[f"basis{axis}"] = torch.linalg.qr(_wide(product[:, order]))[0].to(basis.dtype)


def _wide(tensor: Tensor) -> Tensor:
    """Convert to the least precise dtype in which decompositions are computed."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
