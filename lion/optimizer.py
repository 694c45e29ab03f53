"""Lion: evolved sign momentum (Chen et al. 2023, arXiv:2302.06675, Algorithm 2)."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lion.kernels import cpu

MOMENTUM_DTYPES = ("float64", "float32", "bfloat16", "float16")
OPTIONS = {"maximize": False, "foreach": None, "capturable": False, "momentum_dtype": None, "fused": None}
Tensors = list[Tensor]
Group = dict[str, Any]


class Lion(Optimizer):
    r"""Moves every weight by the rate, in the direction of a sign (Chen et al. 2023, https://arxiv.org/abs/2302.06675).

    .. math::
        c_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        \theta_t &= \theta_{t-1} - \eta_t \, (\mathrm{sign}(c_t) + \lambda \theta_{t-1}) \\
        m_t &= \beta_2 m_{t-1} + (1 - \beta_2) g_t

    with :math:`m_0 = 0` and :math:`\mathrm{sign}(0) = 0`. One buffer a parameter, no bias correction, no epsilon.

    The decay is decoupled and multiplied by the scheduled rate, as in the paper, optax and :class:`torch.optim.AdamW`;
    code that multiplies it by the schedule alone (big_vision) or divides it by the initial rate needs other numbers.
    Start from a rate 3 to 10 times smaller and a decay 3 to 10 times larger than AdamW's; warmup, schedule and clipping
    stay. Where training is unstable, betas of (0.95, 0.98) forget faster. A NaN in a gradient makes the momentum NaN
    there for good; torch.sign(nan) is 0, so from then on the weight moves by decay alone.

    Args:
        params: parameters, named or not, or dictionaries that describe groups of them.
        lr: learning rate in weight units a step (default 1e-4), a number or a tensor without axes, which a compiled
            step reads without compiling again. Each group has its own copy: `param_groups[i]["lr"]`.
        betas: shares of the old momentum in the direction and in the next momentum, in [0, 1) (default 0.9, 0.99).
        weight_decay: λ; a step takes the share lr·λ off a weight (default 0).
        maximize: climb instead of descend (default False).
        foreach: operations over lists of tensors. None, the default: not on the CPU, nor for a tensor lr without
            `capturable`. (ViT-S/16, one CPU thread, float32, in turn: the loop 20 ms a step, lists 51 ms.)
        capturable: keep lr in a tensor on the parameters' device, for a captured CUDA graph to see what a schedule sets
            (default False). Off the CPU, lists with a tensor lr need it, as in torch's Adam.
        fused: the step in one pass over memory, with the same bits as the others. None, the default: on the CPU, for
            float32 and bfloat16, where a C compiler is at hand (the first step compiles once, in about a second).
            True: the same, and a warning says why where it cannot be. False: never.
        momentum_dtype: how the momentum is stored, a torch.dtype or its name (default None: as the parameter; the
            paper: bfloat16). Arithmetic is in the wider of the two types, rounded on storing.

    Raises:
        ValueError: a setting is out of its range, or a parameter is complex.
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
        fused: bool | None = None,
    ) -> None:
        options = {"maximize": maximize, "foreach": foreach, "capturable": capturable, "momentum_dtype": momentum_dtype}
        options |= {"fused": fused}
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, **options})

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters after checking its settings."""
        super().add_param_group(param_group)
        self.param_groups.append(_settled(self.param_groups.pop()))  # left out if refused

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fill in settings that older pickles and other Lions do not have."""
        super().__setstate__(state)
        self.defaults = OPTIONS | self.defaults
        for group in self.param_groups:
            group.update(_settled(self.defaults | group))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, of this Lion or another that calls its momentum `exp_avg`.

        torch would cast the momentum to the parameters' type. Here it gets the type that this optimizer's group
        names, or else the checkpoint's. Settings that the checkpoint does not have stay as they are.
        """
        own = [{name: group[name] for name in self.defaults} for group in self.param_groups]
        given: dict[str, Any] = {}  # the state as the hooks of others leave it

        def mend(_: Optimizer) -> None:
            for group, saved, settings in zip(self.param_groups, given["param_groups"], own, strict=True):
                kept = {k: v for k, v in settings.items() if k not in saved or (k == "momentum_dtype" and v)}
                group.update(_settled(group | kept))
                for p, number in zip(group["params"], saved["params"], strict=True):
                    if state := given["state"].get(number):
                        dtype = getattr(torch, group["momentum_dtype"] or "", p.dtype)
                        self.state[p] = {"exp_avg": state["exp_avg"].to(p.device, dtype, copy=True)}

        before = self.register_load_state_dict_pre_hook(lambda _, state: given.update(state))
        with before, self.register_load_state_dict_post_hook(mend, prepend=True):
            super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient; return what `closure`, which evaluates the model, returned."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            if params := [p for p in group["params"] if p.grad is not None]:
                grads = [p.grad for p in params]
                if any(g.layout != torch.strided for g in grads):
                    raise RuntimeError("Lion needs dense gradients; a sparse one came (Embedding with sparse=True?)")
                if any(g.is_complex() for g in grads):
                    raise RuntimeError("Lion needs real gradients; view complex parameters with torch.view_as_real")
                for p in params:
                    if not self.state[p]:
                        dtype = getattr(torch, group["momentum_dtype"] or "", p.dtype)
                        self.state[p]["exp_avg"] = torch.zeros_like(p, dtype=dtype)
                momenta = [self.state[p]["exp_avg"] for p in params]
                _chosen(group, params, grads)(params, grads, momenta, group)
        return loss


def _chosen(group: Group, params: Tensors, grads: Tensors) -> Callable[[Tensors, Tensors, Tensors, Group], None]:
    """The update that suits a group: the one place that names them all."""
    if group["fused"] or (group["fused"] is None and not group["foreach"]):
        if (reason := cpu.refusal(params, grads, group)) is None:
            return _update_fused
        if group["fused"]:
            warnings.warn(f"Lion(fused=True): {reason}; the plain step is taken", stacklevel=4)
    on_cpu = any(p.device.type == "cpu" for p in params)
    loose_lr = isinstance(group["lr"], Tensor) and not group["capturable"]
    if group["foreach"] and loose_lr and not on_cpu:
        raise ValueError("foreach=True with a tensor lr needs capturable=True off the CPU; or give lr as a number")
    foreach = not (on_cpu or loose_lr) if group["foreach"] is None else group["foreach"]
    return _update_lists if foreach else _update_each


def _update_fused(params: Tensors, grads: Tensors, momenta: Tensors, group: Group) -> None:
    """Algorithm 2 in one pass; a tensor whose gradient lies otherwise in memory than itself is stepped plainly."""
    rest = cpu.update(params, grads, momenta, group)
    torch.autograd.graph.increment_version(params)  # as every operation in place does
    if rest:
        params, grads, momenta = ([tensors[place] for place in rest] for tensors in (params, grads, momenta))
        _update_each(params, grads, momenta, group)


def _update_each(params: Tensors, grads: Tensors, momenta: Tensors, group: Group) -> None:
    """Algorithm 2, one tensor after the other."""
    lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
    for theta, g, m in zip(params, grads, momenta, strict=True):
        momentum = m.to(torch.promote_types(theta.dtype, m.dtype))
        gradient = (g.neg() if group["maximize"] else g).to(momentum.dtype)
        c = momentum.lerp(gradient, 1 - beta1).sign_()
        if decay:
            theta.mul_(1 - lr * decay)
        theta.sub_(c.mul_(lr)) if isinstance(lr, Tensor) else theta.sub_(c, alpha=lr)
        momentum.lerp_(gradient, 1 - beta2)
        if momentum is not m:
            m.copy_(momentum)


def _update_lists(params: Tensors, grads: Tensors, momenta: Tensors, group: Group) -> None:
    """Algorithm 2 over lists of tensors: one launch an operation where the device can."""
    lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
    widened = [m.to(torch.promote_types(theta.dtype, m.dtype)) for theta, m in zip(params, momenta, strict=True)]
    gradients = [g.to(m.dtype) for g, m in zip(grads, widened, strict=True)]
    if group["maximize"]:
        gradients = list(torch._foreach_neg(gradients))
    c = torch._foreach_lerp(widened, gradients, 1 - beta1)
    torch._foreach_sign_(c)
    if decay:
        torch._foreach_mul_(params, 1 - lr * decay)
    if isinstance(lr, Tensor):
        torch._foreach_mul_(c, lr)
    torch._foreach_sub_(params, c, alpha=1 if isinstance(lr, Tensor) else lr)
    torch._foreach_lerp_(widened, gradients, 1 - beta2)
    for m, momentum in zip(momenta, widened, strict=True):
        if momentum is not m:
            m.copy_(momentum)


def _settled(group: Group) -> Group:
    """A group with its settings in plain types, whatever a configuration gave; refused where out of range."""
    lr, betas, decay, dtype = (group[name] for name in ("lr", "betas", "weight_decay", "momentum_dtype"))
    name = None if dtype is None else str(dtype).removeprefix("torch.")
    if isinstance(lr, Tensor) and lr.ndim:
        raise ValueError(f"lr must be a number or a tensor without axes, not one of shape {tuple(lr.shape)}")
    for setting, value in (("lr", lr), ("weight_decay", decay)):
        if not _in_range(value):
            raise ValueError(f"{setting} must be a finite number of at least 0, not {value!r}")
    if not isinstance(betas, Sequence) or len(betas) != 2 or not all(_in_range(beta, end=1) for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), not {betas!r}")
    if name not in (None, *MOMENTUM_DTYPES):
        raise ValueError(f"momentum_dtype must be None or one of {', '.join(MOMENTUM_DTYPES)}, not {dtype!r}")
    if any(p.is_complex() for p in group["params"]):
        raise ValueError("Lion takes real parameters; view a complex one with torch.view_as_real")
    lr = lr.detach().clone() if isinstance(lr, Tensor) else float(lr)  # a group's own: schedules write into a tensor
    if group["capturable"] and group["params"]:
        lr = torch.as_tensor(lr).to(group["params"][0].device)
    plain = {"lr": lr, "betas": tuple(map(float, betas)), "weight_decay": float(decay), "momentum_dtype": name}
    return group | plain


def _in_range(value: Any, end: float = math.inf) -> bool:
    return isinstance(value, Real | Tensor) and 0 <= float(value) < end
