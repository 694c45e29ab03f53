"""Lion as an optimizer of torch: beside other Lions, with schedules and closures, and compiled."""

import doctest
import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import lion_pytorch
import pytest
import timm.optim.lion
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR
from torch.utils._python_dispatch import TorchDispatchMode

import lion.optimizer
from lion import Lion
from lion.kernels import plain

SHAPES = [(), (7,), (5, 3), (0, 2), (2, 3, 4)]
NAN, INF = float("nan"), float("inf")


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


# PaperComparison the others


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_timm(decay: float, maximize: bool, foreach: bool, dtype: torch.dtype) -> None:
    """timm does the same operations in the same order: equal bit for bit, through a schedule."""
    given = {"lr": 0.01, "betas": (0.95, 0.98), "weight_decay": decay, "maximize": maximize, "foreach": foreach}
    ours, theirs = Lion(parameters(dtype), **given), timm.optim.lion.Lion(parameters(dtype), **given)
    for optimizer in (ours, theirs):
        schedule = CosineAnnealingLR(optimizer, 20)
        train(optimizer, after=lambda _, schedule=schedule: schedule.step())
    assert_same(ours, theirs)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("foreach", [False, True])
def test_equals_lion_pytorch(decay: float, foreach: bool) -> None:
    """The weights are equal bit for bit, as long as no sign differs.

    The momenta may differ in the last bit: lion-pytorch computes β·m + (1 − β)·g, we (and timm) m + (1 − β)·(g − m).
    """
    ours = Lion(parameters(), lr=0.01, weight_decay=decay, foreach=foreach)
    theirs = lion_pytorch.Lion(parameters(), lr=0.01, weight_decay=decay)
    for optimizer in (ours, theirs):
        train(optimizer)
    assert_same(ours, theirs, rtol=1e-5, atol=1e-7)
    for p, q in zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], strict=True):
        assert torch.equal(p, q)


def test_defaults_are_the_papers() -> None:
    group = Lion(parameters()).param_groups[0]
    assert {name: value for name, value in group.items() if name != "params"} == {
        "lr": 1e-4,
        "betas": (0.9, 0.99),
        "weight_decay": 0.0,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "momentum_dtype": None,
        "momentum_arithmetic": "wide",
        "fused": None,
        "cautious": False,
        "cautious_decay": False,
        "corrected_decay": False,
        "clip_rms": None,
        "stochastic_rounding": False,
    }
    kinds = {name: parameter.kind for name, parameter in inspect.signature(Lion).parameters.items()}
    assert [name for name, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY] == [
        "maximize",
        "foreach",
        "capturable",
        "momentum_dtype",
        "momentum_arithmetic",
        "fused",
        "cautious",
        "cautious_decay",
        "corrected_decay",
        "clip_rms",
        "stochastic_rounding",
    ]


# Lists and loops


@pytest.mark.parametrize("momentum_dtype", [None, torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize("decay", [0.0, 1.0, 7.7])  # in 16 bits the last two differ where 1 - lr·λ is rounded first
def test_lists_equal_the_loop_and_the_kernel(
    dtype: torch.dtype, momentum_dtype: torch.dtype | None, tensor_lr: bool, decay: float
) -> None:
    ends = []
    for way in ({"foreach": False}, {"foreach": True}, {"fused": None}):
        lr = torch.tensor(0.01) if tensor_lr else 0.01
        params = [*parameters(dtype), torch.full((9,), 1.9, dtype=dtype, requires_grad=True)]
        optimizer = Lion(params, lr, weight_decay=decay, momentum_dtype=momentum_dtype, **way)
        train(optimizer, 6)
        ends.append(optimizer)
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


@pytest.mark.parametrize("way", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_decay_of_bfloat16_weights_is_rounded_once(way: dict[str, Any]) -> None:
    """1.9 is 1.8984375 in bfloat16, times 0.99 1.8794, and the nearest numbers are 1.8828125 and 1.875."""
    weight = torch.full((3,), 1.9, dtype=torch.bfloat16, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    Lion([weight], lr=1e-2, weight_decay=1.0, **way).step()
    assert weight.tolist() == [1.8828125] * 3


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("rate", [1e-4, 3e-5, 0.1, torch.tensor(3e-4)])
def test_a_step_of_bfloat16_weights(foreach: bool, rate: float | Tensor) -> None:
    """From zero, a weight lands on the bfloat16 number nearest to the rate."""
    weight = torch.zeros(3, dtype=torch.bfloat16, requires_grad=True)
    weight.grad = torch.tensor([-1e-8, 0.0, 1e8], dtype=torch.bfloat16)
    Lion([weight], lr=rate, foreach=foreach).step()
    nearest = torch.tensor(float(rate)).bfloat16()
    assert torch.equal(weight.detach(), torch.stack([nearest, torch.zeros_like(nearest), -nearest]))


@pytest.mark.parametrize("foreach", [None, False, True])
def test_a_group_without_gradients_is_left_alone(foreach: bool | None) -> None:
    """A frozen group among others, a step before any backward, a group without parameters."""
    frozen, trained = parameters(), parameters(seed=1)
    optimizer = Lion([{"params": frozen}, {"params": trained}, {"params": []}], lr=0.5, foreach=foreach)
    optimizer.step()
    assert not optimizer.state
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for parameter, start, moved in zip(frozen, parameters(), trained, strict=True):
        assert torch.equal(parameter, start)
        assert moved in optimizer.state
        assert parameter not in optimizer.state
    torch.testing.assert_close(trained[1], parameters(seed=1)[1] - 0.5)


@pytest.mark.parametrize("foreach", [False, True])
def test_mixed_types_in_one_optimizer(foreach: bool) -> None:
    """Each parameter goes as it would alone, in its own type."""
    types = [torch.float32, torch.bfloat16, torch.float64, torch.float32]
    together = [torch.linspace(-1, 1, 9).to(dtype).requires_grad_() for dtype in types]
    alone = [p.detach().clone().requires_grad_() for p in together]
    given = {"lr": 2.0**-6, "weight_decay": 0.25, "foreach": foreach}
    optimizers = [Lion(together, **given), *(Lion([p], **given) for p in alone)]
    random = torch.Generator().manual_seed(2)
    for _ in range(10):
        for p, q in zip(together, alone, strict=True):
            p.grad = torch.randn(9, generator=random).to(p.dtype)
            q.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for p, q, dtype in zip(together, alone, types, strict=True):
        assert p.dtype == dtype
        assert optimizers[0].state[p]["exp_avg"].dtype == dtype
        assert torch.equal(p, q)


@pytest.mark.parametrize("foreach", [False, True])
def test_momentum_lies_as_the_parameter(foreach: bool) -> None:
    weight = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    weight.grad = torch.randn(2, 3, 4, 5)
    optimizer = Lion([weight], foreach=foreach, momentum_dtype="bfloat16")
    optimizer.step()
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32", "float64"])
def test_momentum_dtype_by_name_or_type(name: str) -> None:
    dtype = getattr(torch, name)
    by_name, by_type = Lion(parameters(), momentum_dtype=name), Lion(parameters(), momentum_dtype=dtype)
    for optimizer in (by_name, by_type):
        train(optimizer, 6)
        assert {state["exp_avg"].dtype for state in optimizer.state.values()} == {dtype}
    assert_same(by_name, by_type)


def test_one_buffer_a_parameter() -> None:
    optimizer = Lion(parameters(), momentum_dtype="bfloat16")
    train(optimizer, 3)
    for parameter, state in optimizer.state.items():
        assert list(state) == ["exp_avg"]
        assert state["exp_avg"].nbytes == 2 * parameter.numel()


@pytest.mark.parametrize(
    ("device", "given", "lists"),
    [
        ("cpu", {}, False),
        ("cpu", {"foreach": True}, True),
        ("cpu", {"foreach": True, "lr": torch.tensor(0.1)}, True),
        ("meta", {}, True),
        ("meta", {"foreach": False}, False),
        ("meta", {"lr": torch.tensor(0.1)}, False),
        ("meta", {"foreach": True, "lr": 0.1}, True),
    ],
    ids=str,
)
def test_where_lists_are_used(device: str, given: dict[str, Any], lists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta tensors stand for any device but the CPU. A tensor lr that is not capturable takes the loop, as in Adam."""
    used = []
    for name in ("each", "lists"):
        update = getattr(plain, name)
        spy = lambda *args, name=name, update=update: (used.append(name), update(*args))  # noqa: E731
        monkeypatch.setattr(plain, name, spy)
    weight = torch.zeros(3, device=device, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    Lion([weight], fused=False, **given).step()
    assert used == ["lists" if lists else "each"]


def test_refuses_lists_with_a_loose_tensor_lr_off_the_cpu() -> None:
    weight = torch.zeros(3, device="meta", requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    with pytest.raises(ValueError, match=r"tensor lr.*capturable=True") as error:
        Lion([weight], lr=torch.tensor(0.1), foreach=True).step()
    assert "\n" not in str(error.value)


# Learning rates


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


# Closures, groups, models


def test_closure() -> None:
    """It is called once, with gradients on, and its loss comes back."""
    weight = torch.tensor([2.0], requires_grad=True)
    optimizer = Lion([weight], lr=0.5)
    calls = []

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        calls.append(1)
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert (loss.item(), len(calls), weight.item()) == (4.0, 1, 1.5)
    assert optimizer.step() is None


def test_add_param_group() -> None:
    first, second = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = Lion([first], lr=0.5, momentum_dtype="bfloat16")
    optimizer.add_param_group({"params": second, "lr": 0.25, "momentum_dtype": "float64", "maximize": True})
    for weight in (first, second):
        weight.grad = torch.ones(1)
    optimizer.step()
    assert (first.item(), second.item()) == (-0.5, 0.25)
    assert optimizer.state[first]["exp_avg"].dtype == torch.bfloat16
    assert optimizer.state[second]["exp_avg"].dtype == torch.float64


def test_named_parameters_and_a_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = Lion(model.named_parameters(), lr=3e-3, weight_decay=0.01)
    x = torch.randn(64, 4)
    y = x[:, :1] * x[:, 1:2]
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    assert losses[-1] < 0.1 * losses[0]


def test_step_records_no_gradients() -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = Lion([weight], lr=0.1, weight_decay=0.1)
    (weight**2).sum().backward()
    optimizer.step()
    assert weight.is_leaf
    assert weight.grad_fn is None
    assert not optimizer.state[weight]["exp_avg"].requires_grad


# Compiled


def compiled_against_eager(backend: str, **given: Any) -> None:
    """Eight steps with a changing rate, compiled as one graph and not again after the first call."""
    torch.compiler.reset()
    eager, compiled = Lion(parameters(), **given), Lion(parameters(), **given)
    run = torch.compile(lambda: compiled.step(), fullgraph=True, backend=backend)
    for optimizer, step in ((eager, eager.step), (compiled, run)):
        random = torch.Generator().manual_seed(5)
        for number in range(8):
            for parameter in optimizer.param_groups[0]["params"]:
                parameter.grad = torch.randn(parameter.shape, generator=random)
            # The first call makes the momenta, the second sees them made.
            with torch.compiler.set_stance("fail_on_recompile" if step is run and number > 1 else "default"):
                step()
            if isinstance(optimizer.param_groups[0]["lr"], Tensor):
                optimizer.param_groups[0]["lr"].mul_(0.5)
    # A compiler may fuse a multiplication and an addition, which saves one rounding; a step is 0.01 and more.
    assert_same(eager, compiled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("given", [{"capturable": True}, {"capturable": True, "foreach": True}, {}], ids=str)
def test_step_is_one_graph(given: dict[str, Any]) -> None:
    """Traced whole by dynamo, with nothing compiled again while the rate changes in its tensor."""
    compiled_against_eager("eager", lr=0.01, weight_decay=0.1, **given)


@pytest.mark.slow
@pytest.mark.parametrize("momentum_dtype", [None, "bfloat16"])
@pytest.mark.parametrize("foreach", [False, True])
def test_compiled_step_equals_eager(foreach: bool, momentum_dtype: str | None) -> None:
    given = {"foreach": foreach, "momentum_dtype": momentum_dtype, "capturable": True}
    compiled_against_eager("inductor", lr=0.01, weight_decay=0.1, **given)


# The package


def test_importing_lion_needs_torch_alone() -> None:
    """Nothing of ours and nothing heavy comes along."""
    program = (
        "import sys, torch; before = set(sys.modules); import lion; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split() == ["lion"]


def test_example_in_the_docstring() -> None:
    results = doctest.testmod(lion.optimizer)
    assert results.attempted >= 4
    assert results.failed == 0
