"""PSGD Kron: SGD with momentum, whitened by a Kronecker product of triangular matrices."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from baselines.axes import exact_products, gram, multiply_axis, slices
from baselines.tensors import Baseline, Group, Tensors, check_at_least_zero, check_factors, decay, state_of

# The authors' schedule: a fit at each of the first steps, then ever fewer, down to a share of the steps.
EVERY_STEP_UNTIL = 500
DECLINE = 0.001
SMALLEST_SHARE = 0.03
LARGEST_RMS = 1.1

Factors = dict[int, Tensor]


class Kron(Baseline):
    r"""PSGD with Kronecker-factored preconditioners, as in Walters' kron_torch, for tensors of any number of axes.

    Li 2015, arXiv:1512.04202; Pooladzandi & Li 2024, arXiv:2402.04553. For a matrix, with the bias-corrected momentum
    :math:`M_t`, upper triangular factors :math:`Q_L, Q_R` and noise :math:`V_t \sim N(0, 1)`:

    .. math::
        A &= Q_L M_t Q_R^\top, \qquad B = Q_L^{-\top} V_t Q_R^{-1} \\
        Q_L &\leftarrow Q_L - \mu \frac{\mathrm{triu}(A A^\top - B B^\top)}{\lVert A A^\top + B B^\top \rVert_2} Q_L,
            \qquad Q_R \text{ likewise of } A^\top A \text{ and } B^\top B \\
        U_t &= Q_L^\top Q_L M_t Q_R^\top Q_R, \qquad
            W_t = W_{t-1} - \eta_t (U_t \min(1, 1.1 / \mathrm{rms}(U_t)) + \lambda W_{t-1})

    The factors are fitted at each of the first 500 steps, then ever more rarely, from step 4,000 on at 3% of them. A
    vector, and an axis of 1 or of more than `max_size_triangular`, has a diagonal factor. The norm is a lower bound.
    The noise is drawn from the count of steps, so that every process of a run and a resumed run draw the same. The
    state of an m × n matrix is mn + m² + n² numbers of the parameter's type.

    Args:
        params: parameters, or dictionaries that describe groups of them.
        lr: learning rate.
        beta: factor of the moving average of the gradient.
        weight_decay: coefficient of the decay, multiplied by the learning rate.
        precond_lr: the size :math:`\mu` of a step of the factors, relative to them.
        max_size_triangular: an axis that is longer has a diagonal factor.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-4,
        beta: float = 0.9,
        weight_decay: float = 0.0,
        precond_lr: float = 0.1,
        max_size_triangular: int = 8192,
    ) -> None:
        settings = {"precond_lr": precond_lr, "max_size_triangular": max_size_triangular}
        super().__init__(params, lr=lr, beta=beta, weight_decay=weight_decay, **settings)

    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""
        names = ("lr", "weight_decay", "precond_lr", "max_size_triangular")
        check_at_least_zero(**{name: settings[name] for name in names})
        check_factors("beta", [settings["beta"]], 1)

    @exact_products()
    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""
        beta = group["beta"]
        decay(params, group)
        for p, grad in zip(params, grads, strict=True):
            state = state_of(self, p, "exp_avg")
            if state["step"] == 1:
                state |= {"number": len(self.state), "steps_since_fit": 0}
                state |= {f"factor{axis}": q for axis, q in _identities(p, group["max_size_triangular"]).items()}
            wide = torch.promote_types(p.dtype, torch.float32)
            factors = {axis: state[f"factor{axis}"].to(wide) for axis in range(max(p.ndim, 1))}
            state["exp_avg"].lerp_(grad, 1 - beta)
            momentum = state["exp_avg"].to(wide).reshape(p.shape or 1) / (1 - beta ** state["step"])
            state["steps_since_fit"] += 1
            if state["steps_since_fit"] * _share_of_fits(state["step"] - 1) >= 1:
                state["steps_since_fit"] = 0
                _fit(factors, momentum, _noise(momentum, state["step"], state["number"]), group["precond_lr"])
                for axis, q in factors.items():
                    state[f"factor{axis}"].copy_(q)
            update = _multiplied(_multiplied(momentum, factors), factors, transposed=True)
            update *= (LARGEST_RMS / (update.square().mean().sqrt() + 1e-8)).clamp(max=1)
            p.add_(update.view_as(p), alpha=-float(group["lr"]))


def _identities(p: Tensor, largest: int) -> Factors:
    """The factors to start from: a matrix for an axis, or its diagonal."""
    diagonal = [p.ndim < 2 or not 1 < size <= largest for size in p.shape or (1,)]
    return {
        axis: (torch.ones if diagonal[axis] else torch.eye)(size, dtype=p.dtype, device=p.device)
        for axis, size in enumerate(p.shape or (1,))
    }


def _share_of_fits(step: int) -> float:
    """The share of steps, of those about this one, that fit the factors."""
    return min(max(math.exp(-DECLINE * (step - EVERY_STEP_UNTIL)), SMALLEST_SHARE), 1.0)


def _noise(like: Tensor, step: int, number: int) -> Tensor:
    """Normal numbers that depend on a step and the parameter's number alone."""
    random = torch.Generator("cpu" if like.is_meta else like.device).manual_seed(step * 1_000_003 + number)
    return torch.randn(like.shape, generator=random, dtype=like.dtype, device=like.device)


def _fit(factors: Factors, momentum: Tensor, noise: Tensor, lr: float) -> None:
    """Turn the factors by a step towards those under which momentum looks like noise, in place."""
    whitened, unwhitened = _multiplied(momentum, factors), _divided(noise, factors)
    for axis, q in factors.items():
        if q.ndim == 1:
            ours, theirs = (slices(tensor, axis).square().sum(1) for tensor in (whitened, unwhitened))
            change = (ours - theirs) * q / _at_least_tiny((ours + theirs).max())
        else:
            ours, theirs = gram(whitened, axis), gram(unwhitened, axis)
            change = (ours - theirs).triu_() @ q / _at_least_tiny(_spectral_norm(ours + theirs))
        q.sub_(change * momentum.any(), alpha=lr)  # nothing to fit to: they would grow without end
    # Factors of unlike sizes with the same product would overflow one day.
    sizes = torch.stack([q.abs().max() for q in factors.values()])
    for q, size in zip(factors.values(), sizes, strict=True):
        q.mul_(sizes.log().mean().exp() / size)


def _multiplied(tensor: Tensor, factors: Factors, transposed: bool = False) -> Tensor:
    """A tensor whose axes are multiplied by their factors: Q_L T Q_R^T for a matrix, or Q_L^T T Q_R."""
    for axis, q in factors.items():
        if q.ndim == 1:
            tensor = tensor * _along(q, axis, tensor.ndim)
        else:
            tensor = multiply_axis(tensor, axis, q if transposed else q.mT)
    return tensor


def _divided(tensor: Tensor, factors: Factors) -> Tensor:
    """A tensor whose axes are multiplied by their factors' transposed inverses: Q_L^-T T Q_R^-1 for a matrix."""
    for axis, q in factors.items():
        if q.ndim == 1:
            tensor = tensor / _along(q, axis, tensor.ndim)
        else:
            rows = tensor.movedim(axis, -1)
            # As one matrix: for a batch torch copies q once for each item.
            solved = torch.linalg.solve_triangular(q, rows.reshape(-1, len(q)), upper=True, left=False)
            tensor = solved.reshape(rows.shape).movedim(-1, axis)
    return tensor


def _along(vector: Tensor, axis: int, ndim: int) -> Tensor:
    """A vector that is broadcast along one axis of tensors of so many."""
    return vector.view([-1 if at == axis else 1 for at in range(ndim)])


def _spectral_norm(symmetric: Tensor) -> Tensor:
    """A lower bound that costs three products: two steps of power iteration from the row of the largest norm."""
    largest = _at_least_tiny(symmetric.abs().max())
    scaled = symmetric / largest
    row = scaled.index_select(0, scaled.square().sum(1).argmax(keepdim=True)).squeeze(0)
    image = scaled @ row
    return largest * torch.linalg.vector_norm(scaled @ image) / _at_least_tiny(torch.linalg.vector_norm(image))


def _at_least_tiny(number: Tensor) -> Tensor:
    return number.clamp(min=torch.finfo(number.dtype).tiny)
