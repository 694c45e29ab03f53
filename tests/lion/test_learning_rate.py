"""Lion's learning rates: as tensors, of groups of their own, through schedules."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR
from torch.utils._python_dispatch import TorchDispatchMode

from lion import Lion
from tests.lion.training import assert_same, parameters, train


class Reads(TorchDispatchMode):
    """Fails where a tensor is read out as a Python number, for which an accelerator would have to wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a tensor was read"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("given", [{}, {"capturable": True}, {"foreach": True, "capturable": True}], ids=str)
def test_tensor_lr_is_never_read(given: dict[str, Any]) -> None:
    optimizer = Lion(parameters(), torch.tensor(0.01), weight_decay=0.1, **given)
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    with Reads():
        optimizer.step()
        optimizer.step()
    with pytest.raises(AssertionError, match="a tensor was read"), Reads():
        optimizer.param_groups[0]["lr"].item()


def test_a_group_copies_a_tensor_lr() -> None:
    """What the caller does with the tensor afterwards is not the optimizer's rate; writing to the group's is."""
    given = torch.tensor(0.5)
    weight = torch.zeros(1, requires_grad=True)
    optimizer = Lion([weight], lr=given)
    given.fill_(100.0)
    optimizer.param_groups[0]["lr"].mul_(0.5)
    weight.grad = -torch.ones(1)
    optimizer.step()
    assert weight.item() == 0.25


@pytest.mark.parametrize("foreach", [False, True])
def test_tensor_lr_equals_float_lr(foreach: bool) -> None:
    """A constant rate without decay: bit for bit. Otherwise 1 − lr·λ and the schedule are float32 in the one."""
    for decay, scheduled in ((0.0, False), (0.3, False), (0.3, True)):
        optimizers = [
            Lion(parameters(), lr=lr, weight_decay=decay, foreach=foreach, capturable=capturable)
            for lr, capturable in ((0.01, False), (torch.tensor(0.01), False), (0.01, True))
        ]
        for optimizer in optimizers:
            schedule = CosineAnnealingLR(optimizer, 30 if scheduled else 10**9)
            train(optimizer, after=(lambda _, schedule=schedule: schedule.step()) if scheduled else None)
        for other in optimizers[1:]:
            assert_same(optimizers[0], other, **({"rtol": 1e-5, "atol": 1e-6} if decay else {}))


def test_capturable_keeps_one_tensor_through_a_schedule() -> None:
    """What a captured graph reads has to be the tensor that the schedule writes."""
    optimizer = Lion([{"params": parameters(), "lr": 0.5}, {"params": parameters()}], lr=1.0, capturable=True)
    held = [group["lr"] for group in optimizer.param_groups]
    schedule = LambdaLR(optimizer, lambda step: 2.0**-step)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.5 / 8, 1.0 / 8]
    for group, lr in zip(optimizer.param_groups, held, strict=True):
        assert group["lr"] is lr


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("given", [0.5, torch.tensor(0.5)])
def test_groups_have_rates_of_their_own(capturable: bool, given: float | Tensor) -> None:
    """One tensor given as the rate of two groups must not tie their schedules together."""
    lr = given.clone() if isinstance(given, Tensor) else given
    one, other = (torch.zeros(1, requires_grad=True) for _ in range(2))
    optimizer = Lion([{"params": [one]}, {"params": [other]}], lr=lr, capturable=capturable)
    schedule = LambdaLR(optimizer, [lambda step: 1.0, lambda step: 0.5**step])
    for _ in range(3):
        one.grad, other.grad = -torch.ones(1), -torch.ones(1)
        optimizer.step()
        schedule.step()
    assert (one.item(), other.item()) == (1.5, 0.5 + 0.25 + 0.125)


@pytest.mark.parametrize("tensor_lr", [False, True])
def test_follows_a_schedule(tensor_lr: bool) -> None:
    """Under gradients of one sign the weight goes by the sum of the scheduled rates."""
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = Lion([weight], lr=torch.tensor(0.5, dtype=torch.float64) if tensor_lr else 0.5)
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for _ in range(8):
        weight.grad = -torch.ones(1, dtype=torch.float64)
        optimizer.step()
        schedule.step()
    assert weight.item() == pytest.approx(0.5 * sum(1 / k for k in range(1, 9)), rel=1e-12)


def test_decay_follows_the_schedule() -> None:
    """With no gradient to follow, each step leaves the share 1 − lr_t·λ."""
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = Lion([weight], lr=0.5, weight_decay=0.5)
    schedule = CosineAnnealingLR(optimizer, 6)
    expected = 1.0
    for _ in range(6):
        weight.grad = torch.zeros_like(weight)
        expected *= 1 - schedule.get_last_lr()[0] * 0.5
        optimizer.step()
        schedule.step()
    assert weight.item() == pytest.approx(expected, rel=1e-12)
    assert expected < 0.5


def test_one_cycle_may_move_beta1() -> None:
    """Schedules that know `betas` cycle the first; the second stays."""
    optimizer = Lion(parameters(), lr=0.1)
    schedule = OneCycleLR(optimizer, 0.1, total_steps=8)
    seen = set()

    def record(step: int) -> None:
        seen.add(optimizer.param_groups[0]["betas"])
        if step < 7:
            schedule.step()

    train(optimizer, 8, after=record)
    assert len({first for first, _ in seen}) > 3
    assert {second for _, second in seen} == {0.99}
