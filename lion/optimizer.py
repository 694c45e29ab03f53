"""Lion: evolved sign momentum (Chen et al. 2023, arXiv:2302.06675, Algorithm 2)."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

MOMENTUM_DTYPES = ("float64", "float32", "bfloat16", "float16")


class Lion(Optimizer):
    r"""Moves every weight by the learning rate, in the direction of a sign.

    .. math::
        c_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        \theta_t &= \theta_{t-1} - \eta_t \, (\mathrm{sign}(c_t) + \lambda \theta_{t-1}) \\
        m_t &= \beta_2 m_{t-1} + (1 - \beta_2) g_t

    with :math:`m_0 = 0` and :math:`\mathrm{sign}(0) = 0`. One buffer a parameter, no bias correction, no epsilon.

    The weight decay is decoupled and multiplied by the scheduled learning rate, as in the paper and in
    :class:`torch.optim.AdamW`. Code that multiplies it by the schedule alone, or divides it by the initial rate,
    needs other numbers for the same decay.

    A rate 3 to 10 times smaller and a decay 3 to 10 times larger than AdamW's is where to start; warmup, schedule
    and clipping stay as they are. Where training is unstable, betas of (0.95, 0.98) forget faster (paper, section 5).

    A gradient that is not a number leaves its weight where it is, since torch.sign(nan) is 0, and its momentum
    not a number from then on: the weight stops silently, apart from decay.

    Args:
        params: parameters, or dictionaries that describe groups of them.
        lr: learning rate; a number, or a tensor of no axes that may change between steps of a compiled function.
        betas: share of the momentum in the update's direction, and in the next momentum.
        weight_decay: coefficient of the decay, multiplied by the learning rate.
        maximize: climb instead of descend.
        foreach: update all tensors of a group with fused list operations. None: where it is faster, which is on
            every device but the CPU. (On 2 cores lists took 5 times
            the loop's time over ViT-S/16's 152 tensors: 123 against 23 ms a step.)
        capturable: keep the learning rate in a tensor on the parameters' device, so that a captured CUDA graph
            sees what a schedule sets.
        momentum_dtype: type in which the momentum is stored, as a torch.dtype or its name; None: the parameter's.
            The paper stores bfloat16. Arithmetic happens in the wider of the two types.

    Raises:
        ValueError: a value is out of its range.
        RuntimeError: a gradient is sparse or complex.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.0]))
        >>> optimizer = Lion([weight], lr=0.5)
        >>> (weight**2).sum().backward()
        >>> optimizer.step()
        >>> weight.data
        tensor([ 0.5000, -1.5000,  0.0000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        momentum_dtype: torch.dtype | str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "momentum_dtype": momentum_dtype,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters after checking its settings."""
        group = self.defaults | param_group
        _check(group)
        param_group["momentum_dtype"] = _dtype_name(group["momentum_dtype"])
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        if any(isinstance(p, Tensor) and p.is_complex() for p in params):
            raise ValueError("Lion takes real parameters; view a complex one with torch.view_as_real")
        super().add_param_group(param_group | {"params": params})
        added = self.param_groups[-1]
        if added["capturable"] and added["params"]:
            added["lr"] = torch.as_tensor(added["lr"], dtype=torch.float32).to(added["params"][0].device)
        if isinstance(added["lr"], Tensor):
            added["lr"] = added["lr"].clone()  # a schedule sets each group's rate in place

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fill in settings that older pickles and other Lions do not have."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
            group["momentum_dtype"] = _dtype_name(group["momentum_dtype"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, of this Lion or another that calls its momentum `exp_avg`.

        torch casts a loaded state to the parameters' type, which would turn a bfloat16 momentum into float32 and
        round a float32 momentum of bfloat16 parameters. Here it gets the type that its group names.
        """
        own = [{name: group[name] for name in self.defaults} for group in self.param_groups]
        given: dict[str, Any] = {}  # as hooks that run before loading have left it
        handle = self.register_load_state_dict_pre_hook(lambda _, state: given.update(state))
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        for group, saved, settings in zip(self.param_groups, given["param_groups"], own, strict=True):
            # What another Lion's state does not say stays as this one was made, and so does a type asked for.
            group.update({name: value for name, value in settings.items() if name not in saved})
            group["momentum_dtype"] = settings["momentum_dtype"] or group["momentum_dtype"]
            if group["capturable"] and group["params"]:
                group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(group["params"][0].device)
            for parameter, number in zip(group["params"], saved["params"], strict=True):
                if state := given["state"].get(number):
                    dtype = _stored_dtype(group, parameter)
                    momentum = state["exp_avg"].to(device=parameter.device, dtype=dtype, copy=True)
                    self.state[parameter] = {"exp_avg": momentum}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [_dense(p.grad) for p in params]
            momenta = [self._momentum(p, _stored_dtype(group, p)) for p in params]
            foreach = group["foreach"]
            if foreach is None:
                foreach = all(p.device.type != "cpu" for p in params)
            update = _update_lists if foreach else _update_each
            update(
                params,
                [g.neg() for g in grads] if group["maximize"] else grads,
                momenta,
                lr=group["lr"],
                betas=group["betas"],
                weight_decay=group["weight_decay"],
            )
        return loss

    def _momentum(self, parameter: Tensor, dtype: torch.dtype) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter, dtype=dtype, memory_format=torch.preserve_format)
        momentum: Tensor = state["exp_avg"]
        return momentum


def _update_each(
    params: list[Tensor],
    grads: list[Tensor],
    momenta: list[Tensor],
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """Algorithm 2, one tensor after the other."""
    beta1, beta2 = betas
    for theta, g, m in zip(params, grads, momenta, strict=True):
        wide = torch.promote_types(theta.dtype, m.dtype)
        gradient, momentum = g.to(wide), m.to(wide)
        update = momentum.lerp(gradient, 1 - beta1).sign_()
        if weight_decay:
            theta.mul_(1 - lr * weight_decay)
        if isinstance(lr, Tensor):
            theta.sub_(update.mul_(lr))
        else:
            theta.sub_(update, alpha=lr)
        momentum.lerp_(gradient, 1 - beta2)
        if momentum is not m:
            m.copy_(momentum)


def _update_lists(
    params: list[Tensor],
    grads: list[Tensor],
    momenta: list[Tensor],
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """Algorithm 2 over lists of tensors: one launch an operation where the device can."""
    beta1, beta2 = betas
    wide = [torch.promote_types(theta.dtype, m.dtype) for theta, m in zip(params, momenta, strict=True)]
    gradients = [g.to(dtype) for g, dtype in zip(grads, wide, strict=True)]
    widened = [m.to(dtype) for m, dtype in zip(momenta, wide, strict=True)]
    updates = torch._foreach_lerp(widened, gradients, 1 - beta1)
    torch._foreach_sign_(updates)
    if weight_decay:
        torch._foreach_mul_(params, 1 - lr * weight_decay)
    torch._foreach_mul_(updates, lr)
    torch._foreach_sub_(params, updates)
    torch._foreach_lerp_(widened, gradients, 1 - beta2)
    for m, momentum in zip(momenta, widened, strict=True):
        if momentum is not m:
            m.copy_(momentum)


def _dense(gradient: Tensor) -> Tensor:
    if gradient.is_sparse:
        raise RuntimeError("Lion needs dense gradients; a sparse one came (an embedding with sparse=True?)")
    if gradient.is_complex():
        raise RuntimeError("Lion needs real gradients; view complex parameters with torch.view_as_real")
    return gradient


def _check(group: dict[str, Any]) -> None:
    """Refuse settings out of their range."""
    lr, betas, decay = group["lr"], group["betas"], group["weight_decay"]
    if isinstance(lr, Tensor) and lr.ndim:
        raise ValueError(f"lr must be a number or a tensor without axes, not one of shape {tuple(lr.shape)}")
    if not math.isfinite(float(lr)) or float(lr) < 0:
        raise ValueError(f"lr must be a finite number of at least 0, not {lr}")
    if not isinstance(betas, list | tuple) or len(betas) != 2 or not all(0 <= float(beta) < 1 for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), not {betas}")
    if not math.isfinite(decay) or decay < 0:
        raise ValueError(f"weight_decay must be a finite number of at least 0, not {decay}")


def _dtype_name(dtype: torch.dtype | str | None) -> str | None:
    """The name of a type to store momentum in: what a state dictionary of any kind can hold."""
    name = str(dtype).removeprefix("torch.")
    if dtype is not None and name not in MOMENTUM_DTYPES:
        raise ValueError(f"momentum_dtype must be None or one of {', '.join(MOMENTUM_DTYPES)}, not {dtype}")
    return None if dtype is None else name


def _stored_dtype(group: dict[str, Any], parameter: Tensor) -> torch.dtype:
    """The type in which a parameter's momentum is stored."""
    name = group["momentum_dtype"]
    dtype: torch.dtype = parameter.dtype if name is None else getattr(torch, name)
    return dtype
