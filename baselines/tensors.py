"""What every optimizer of this package does around its formula: check settings, gather gradients, decay weights."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def check_at_least_zero(**settings: float) -> None:
    """Refuse settings that are no finite numbers of at least 0.

    Raises:
        ValueError: names the setting and its value.
    """
    for name, value in settings.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value} must be a finite number of at least 0")


def check_factors(name: str, values: Sequence[float], count: int) -> None:
    """Refuse factors of moving averages outside of [0, 1), or more or fewer of them than `count`.

    Raises:
        ValueError: names the setting and its value.
    """
    if len(values) != count or not all(0 <= value < 1 for value in values):
        shown = values[0] if count == len(values) == 1 else list(values)
        expected = "a number" if count == 1 else f"{count} numbers"
        raise ValueError(f"{name}={shown} must be {expected} of at least 0 and below 1")


def evaluate(closure: Callable[[], Any] | None) -> Any:
    """Return the closure's loss, computed with gradients, or None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def state_of(optimizer: Optimizer, parameter: Tensor, *buffers: str) -> dict[str, Any]:
    """Return a parameter's state: the steps it has taken, this one counted, and its buffers, zeros at first."""
    state: dict[str, Any] = optimizer.state[parameter]
    if not state:
        state["step"] = 0
        for name in buffers:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    state["step"] += 1
    return state


def with_gradients(group: dict[str, Any]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Yield lists of parameters and of their gradients: on the CPU one by one, on other devices all at once.

    Fused list operations save kernel launches on an accelerator; on a CPU there is no launch to save, and a tensor
    that stays in the cache from one operation to the next is faster.

    Raises:
        RuntimeError: a gradient is sparse, or complex.
    """
    params = [p for p in group["params"] if p.grad is not None]
    for gradient in (p.grad for p in params):
        if gradient.is_sparse or gradient.is_complex():
            kind = "sparse" if gradient.is_sparse else "complex"
            raise RuntimeError(f"a gradient is {kind}; this optimizer takes dense real ones")
    together = bool(params) and all(p.device.type != "cpu" for p in params)
    for chunk in [params] if together else ([p] for p in params):
        yield chunk, [p.grad for p in chunk]


def decay(params: list[Tensor], group: dict[str, Any]) -> None:
    """Decoupled weight decay in place, by the learning rate of this step: theta <- theta - lr * lambda * theta."""
    if group["weight_decay"] != 0:
        torch._foreach_mul_(params, 1 - float(group["lr"]) * group["weight_decay"])
