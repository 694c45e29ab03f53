"""The step inside the backward pass: no two gradients need to be alive at once."""

from functools import partial

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lion.optimizer import Lion, check_gradients


def step_in_backward(optimizer: Lion) -> list[RemovableHandle]:
    """Have `backward` step each parameter as soon as its gradient is whole, and drop the gradient.

    The results are those of the ordinary step, bit for bit, and the training loop stays as it is: `optimizer.step()`
    finds no gradients and does nothing, schedules go on. What needs all gradients at once is lost: clipping by their
    norm, accumulating them over several batches, scaling the loss, averaging them over processes.

    Args:
        optimizer: its parameters of now get a hook each; those added later do not.

    Returns:
        The hooks: `remove()` all of them for the ordinary step.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> hooks = step_in_backward(Lion([weight], lr=0.5))
        >>> (weight**2).sum().backward()
        >>> weight.data, weight.grad
        (tensor([ 0.5000, -1.5000]), None)
    """
    return [
        p.register_post_accumulate_grad_hook(partial(_step, optimizer, number))
        for number, group in enumerate(optimizer.param_groups)
        for p in group["params"]
        if p.requires_grad
    ]


@torch.no_grad()
def _step(optimizer: Lion, number: int, p: Tensor) -> None:
    check_gradients([p])
    optimizer.update(optimizer.param_groups[number], [p])  # looked up now: loading a checkpoint makes new groups
    p.grad = None
