"""The base class of the optimizers here: checks settings, collects gradients, decays weights."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Tensors = list[Tensor]
Group = dict[str, Any]


class Baseline(Optimizer, ABC):
    """Base class: a subclass defines its settings and the update of a list of tensors.

    A group's settings are checked when it is added, groups do not share a learning rate tensor, and loading, copying
    and pickling keep the groups' keys.
    """

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        super().__init__(params, settings)

    @abstractmethod
    def check(self, settings: Group) -> None:
        """Check the settings of a group; raises ValueError."""

    @abstractmethod
    def update(self, group: Group, params: Tensors, grads: Tensors) -> None:
        """Update the parameters of a group by their gradients, in place."""

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters after checking its settings."""
        super().add_param_group(param_group)
        group = self.param_groups.pop()  # left out if refused
        self.check(group)
        if any(p.is_complex() for p in group["params"]):
            raise ValueError("a parameter is complex; view it with torch.view_as_real")
        if isinstance(group["lr"], Tensor):
            group["lr"] = group["lr"].detach().clone()  # schedules write into it
        self.param_groups.append(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickled or loaded state, without the key that torch adds to the defaults of later groups."""
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient, and return what the closure returned."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        check_gradients(self.param_groups)
        for group in self.param_groups:
            for params, grads in with_gradients(group):
                self.update(group, params, grads)
        return loss


def check_at_least_zero(**settings: Any) -> None:
    """Refuse settings that are not finite numbers of at least 0.

    Raises:
        ValueError: names the setting and its value.
    """
    for name, value in settings.items():
        if not (is_number(value) and value >= 0):
            raise ValueError(f"{name}={value} must be a finite number of at least 0")


def check_factors(name: str, values: Any, count: int) -> None:
    """Refuse factors of moving averages outside of [0, 1), or more or fewer of them than `count`.

    Raises:
        ValueError: names the setting and its value.
    """
    several = isinstance(values, Sequence) and not isinstance(values, str)
    if not several or len(values) != count or not all(is_number(value) and 0 <= value < 1 for value in values):
        shown = (values[0] if count == len(values) == 1 else list(values)) if several else values
        expected = "a number" if count == 1 else f"{count} numbers"
        raise ValueError(f"{name}={shown} must be {expected} of at least 0 and below 1")


def is_number(value: Any) -> bool:
    """Whether a setting is a finite real number or a 0-d tensor of one; True and False are not."""
    scalar = value.ndim == 0 if isinstance(value, Tensor) else isinstance(value, Real) and not isinstance(value, bool)
    return scalar and math.isfinite(value)


def state_of(optimizer: Optimizer, parameter: Tensor, *buffers: str) -> dict[str, Any]:
    """Return a parameter's state: the steps it has taken, this one counted, and its buffers, zeros at first."""
    state: dict[str, Any] = optimizer.state[parameter]
    if not state:
        state["step"] = 0
        for name in buffers:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    state["step"] += 1
    return state


def check_gradients(groups: list[Group]) -> None:
    """Refuse gradients of any group that are sparse or complex, before a parameter moves.

    Raises:
        RuntimeError: a gradient is sparse, or complex.
    """
    for gradient in (p.grad for group in groups for p in group["params"] if p.grad is not None):
        if gradient.layout != torch.strided or gradient.is_complex():
            kind = "complex" if gradient.is_complex() else "sparse"
            raise RuntimeError(f"a gradient is {kind}; this optimizer takes dense real ones")


def with_gradients(group: Group) -> Iterator[tuple[Tensors, Tensors]]:
    """Yield lists of parameters and of their gradients: on the CPU one by one, on other devices all at once.

    Fused list operations save kernel launches on an accelerator; on a CPU there is no launch to save, and a tensor
    that stays in the cache from one operation to the next is faster. Parameters without elements are left out.
    """
    params = [p for p in group["params"] if p.grad is not None and p.numel()]
    together = bool(params) and all(p.device.type != "cpu" for p in params)
    for chunk in [params] if together else ([p] for p in params):
        yield chunk, [p.grad for p in chunk]


def multiply(tensors: Tensors, factor: float) -> None:
    """Multiply in place by a number that is not rounded to the tensors' type first.

    On the CPU `torch._foreach_mul_` does round it: 0.999 in bfloat16 is 1, so that a moving average never forgets.
    """
    if any(tensor.device.type == "cpu" for tensor in tensors):
        for tensor in tensors:
            tensor.mul_(factor)
    else:
        torch._foreach_mul_(tensors, factor)


def decay(params: Tensors, group: Group) -> None:
    """Decoupled weight decay in place, by the learning rate of this step: theta <- theta - lr * lambda * theta."""
    if group["weight_decay"] != 0:
        multiply(params, 1 - float(group["lr"]) * group["weight_decay"])
