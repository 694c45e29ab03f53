"""Parameters, gradients and comparisons that tests of Lion share."""

from collections.abc import Callable

import torch
from torch import Tensor

SHAPES = [(), (7,), (5, 3), (0, 2), (2, 3, 4)]


def parameters(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random).to(dtype).requires_grad_() for shape in SHAPES]


def train(
    optimizer: torch.optim.Optimizer, steps: int = 20, seed: int = 1, after: Callable[[int], None] | None = None
) -> None:
    """Give every parameter the same random gradients whatever the optimizer; leave one out now and then."""
    random = torch.Generator().manual_seed(seed)
    for step in range(steps):
        number = 0
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradient = torch.randn(parameter.shape, generator=random, dtype=torch.float64).to(parameter.dtype)
                parameter.grad = None if (step + number) % 5 == 4 else gradient
                number += 1
        optimizer.step()
        if after is not None:
            after(step)


def assert_same(first: torch.optim.Optimizer, second: torch.optim.Optimizer, **tolerance: float) -> None:
    """Weights and momenta agree, bit for bit unless a tolerance is given."""
    tolerance = tolerance or {"rtol": 0, "atol": 0}
    compared = 0
    for one, other in zip(first.param_groups, second.param_groups, strict=True):
        for p, q in zip(one["params"], other["params"], strict=True):
            torch.testing.assert_close(p, q, **tolerance)
            assert (p in first.state) == (q in second.state)
            if p in first.state:
                torch.testing.assert_close(first.state[p]["exp_avg"], second.state[q]["exp_avg"], **tolerance)
                compared += 1
    assert compared, "nothing was compared"
