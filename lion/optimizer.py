"""Lion: evolved sign momentum (Chen et al. 2023, arXiv:2302.06675, Algorithm 2)."""

import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lion.kernels import cpu, memory, plain
from lion.settings import OPTIONS, check_effect, settled

Tensors = list[Tensor]
Group = dict[str, Any]
State = dict[str, Any]
Update = Callable[[Tensors, Tensors, list[State], Group], None]


class Lion(Optimizer):
    r"""Moves every weight by the rate, in the direction of a sign (Chen et al. 2023, https://arxiv.org/abs/2302.06675).

    .. math::
        c_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        \theta_t &= \theta_{t-1} - \eta_t \, (\mathrm{sign}(c_t) + \lambda \theta_{t-1}) \\
        m_t &= \beta_2 m_{t-1} + (1 - \beta_2) g_t

    with :math:`m_0 = 0` and :math:`\mathrm{sign}(0) = 0`. One buffer a parameter, no bias correction, no epsilon.

    The decay is decoupled and multiplied by the scheduled rate, as in the paper, optax and :class:`torch.optim.AdamW`;
    code that multiplies it by the schedule alone (big_vision) or divides it by the initial rate needs other numbers.
    Start from a rate 3 to 10 times smaller and a decay 3 to 10 times larger than AdamW's; warm-up, schedule and
    clipping stay. Where training is unstable, betas of (0.95, 0.98) forget faster. A NaN in a gradient makes the
    momentum NaN there for good; torch.sign(nan) is 0, so from then on the weight moves by decay alone.

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
        fused: the step in one pass over memory, with the same bits as the others. None, the default: for float32 and
            bfloat16, on the CPU where a C compiler is at hand (the first step compiles once, in about a second), on
            CUDA where Triton is. True: the same, and a warning says why where it cannot be. False: never. Not together
            with foreach=True.
        momentum_dtype: how the momentum is stored, a torch.dtype or its name (default None: as the parameter; the
            paper: bfloat16). int8 has a float32 scale for every 256 elements (`kernels/memory.py`).
        momentum_arithmetic: "wide", the default: in the wider of the momentum's type and the parameter's, rounded once
            on storing. "storage": as the authors' JAX code and optax's `mu_dtype`, where β is rounded to the
            momentum's type and multiplied in it, so that 0.99 acts as 0.98828 in bfloat16. Needs a `momentum_dtype` of
            bfloat16 or float16, and has no kernel.
        cautious: leave out what disagrees with the gradient in sign and scale up the rest by one over its share, the
            mean over each tensor, at least 0.001 (Liang et al. 2024, arXiv:2411.16085; as timm's `caution`).
        cautious_decay: decay only weights that the step does not push away from zero: where sign(c)·θ ≥ 0 (Chen et
            al. 2025, arXiv:2510.12402).
        corrected_decay: decay by lr²/lr_max·λ, not lr·λ, so that the weights' size does not follow the schedule
            (Defazio 2025, arXiv:2506.02285; as timm's `corrected_weight_decay`). lr_max is the lr given here, kept as
            the group's `max_lr`.
        clip_rms: divide a tensor's update by max(1, RMS/clip_rms), where RMS is its root mean square before lr (Shazeer
            & Stern 2018, arXiv:1804.04235, section 6). A sign update's is at most 1, so 1 and more change nothing but a
            `cautious` one, which has 1/√share; below 1 it is a smaller lr for tensors whose gradients are not sparse.
        stochastic_rounding: round bfloat16 weights up or down at random, so that steps below half their spacing count
            on average. The same numbers in every run, replica and shard (`kernels/memory.py`). Other types stay as
            they are.

    Raises:
        ValueError: a setting is out of its range, excludes another or changes nothing for these parameters, or a
            parameter is complex.
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
        momentum_arithmetic: str = "wide",
        fused: bool | None = None,
        cautious: bool = False,
        cautious_decay: bool = False,
        corrected_decay: bool = False,
        clip_rms: float | None = None,
        stochastic_rounding: bool = False,
    ) -> None:
        arguments = locals()
        options = {name: arguments[name] for name in OPTIONS}
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, **options})
        check_effect(self.param_groups)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters after checking its settings."""
        super().add_param_group(param_group)
        self.param_groups.append(settled(self.param_groups.pop()))  # left out if refused

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fill in settings that older pickles and other Lions do not have."""
        super().__setstate__(state)
        self.defaults = OPTIONS | self.defaults
        # torch adds this key to what is loaded; groups would have one more than they were made with.
        for settings in (self.defaults, *self.param_groups):
            settings.pop("differentiable", None)
        if "defaults" in state:  # not from load_state_dict, which lays the checkpoint's settings over the group's own
            for group in self.param_groups:
                group.update(settled(self.defaults | group))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, of this Lion or another that calls its momentum `exp_avg`.

        torch would cast the momentum to the parameters' type. Here it gets the type that this optimizer's group
        names, or else the checkpoint's. Settings that the checkpoint does not have stay as they are.
        """
        names = (*self.defaults, "max_lr")
        current_settings = [{name: group[name] for name in names if name in group} for group in self.param_groups]
        hooked: dict[str, Any] = {}  # the state as the hooks of others leave it

        def mend(_: Optimizer) -> None:
            places = self._places()
            for group, saved, settings in zip(self.param_groups, hooked["param_groups"], current_settings, strict=True):
                kept = {k: v for k, v in settings.items() if k not in saved or (k == "momentum_dtype" and v)}
                group.update(settled(group | kept))
                for p, number in zip(group["params"], saved["params"], strict=True):
                    if state := hooked["state"].get(number):
                        self.state[p] = memory.loaded(state, p, group, places[p])
            check_effect(self.param_groups, loaded=True)

        before = self.register_load_state_dict_pre_hook(lambda _, state: hooked.update(state))
        with before, self.register_load_state_dict_post_hook(mend, prepend=True):
            super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient; return what `closure`, which evaluates the model, returned."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        stepped = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        for _, params in stepped:
            check_gradients(params)  # of all groups, before a parameter moves
        for group, params in stepped:
            if params:
                self.update(group, params)
        return loss

    def update(self, group: Group, params: Tensors) -> None:
        """Update those of a group's parameters, all of which have a gradient that `check_gradients` accepts."""
        grads = [p.grad for p in params if p.grad is not None]
        if any(not self.state[p] for p in params):
            self._begin(group, params)
        states = [self.state[p] for p in params]
        _chosen(group, params, grads, states)(params, grads, states, group)

    def _begin(self, group: Group, params: Tensors) -> None:
        """Make the states of parameters that have none."""
        places = self._places()
        for p in params:
            if not self.state[p]:
                self.state[p].update(memory.initial(p, group, places[p]))

    def _places(self) -> dict[Tensor, int]:
        """Each parameter's number among all."""
        params = (p for group in self.param_groups for p in group["params"])
        return {p: place for place, p in enumerate(params)}


def check_gradients(params: Tensors) -> None:
    """Refuse gradients that the update does not take.

    Raises:
        RuntimeError: a gradient is sparse, or complex.
    """
    grads = [p.grad for p in params if p.grad is not None]
    if any(g.layout != torch.strided for g in grads):
        raise RuntimeError("Lion needs dense gradients; a sparse one came (Embedding with sparse=True?)")
    if any(g.is_complex() for g in grads):
        raise RuntimeError("Lion needs real gradients; view complex parameters with torch.view_as_real")


def _chosen(group: Group, params: Tensors, grads: Tensors, states: list[State]) -> Update:
    """The update that suits a group: the one place that names them all."""
    if group["fused"] or (group["fused"] is None and not group["foreach"]):
        kernels: Any = _kernels(params[0].device.type)
        if (reason := kernels.refusal(params, grads, states, group)) is None:
            fused: Update = kernels.update
            return fused
        if group["fused"]:
            warnings.warn(f"Lion(fused=True): {reason}; the plain step is taken", stacklevel=5)
    on_cpu = any(p.device.type == "cpu" for p in params)
    loose_lr = isinstance(group["lr"], Tensor) and not group["capturable"]
    if group["foreach"] and loose_lr and not on_cpu:
        raise ValueError("foreach=True with a tensor lr needs capturable=True off the CPU; or give lr as a number")
    foreach = not (on_cpu or loose_lr) if group["foreach"] is None else group["foreach"]
    one_by_one = plain.why_one_by_one(group) if foreach else None
    if group["foreach"] and one_by_one:
        warnings.warn(f"Lion(foreach=True): {one_by_one} is done tensor by tensor; the loop is taken", stacklevel=5)
    return plain.lists if foreach and not one_by_one else plain.each


def _kernels(device: str) -> ModuleType:
    """The one-pass kernels of a kind of device. Triton's import takes a second, and is not everywhere."""
    if device != "cuda" or find_spec("triton") is None:
        return cpu
    from lion.kernels import triton

    return triton
