"""Lion as an optimizer of torch: beside other Lions, with schedules and closures, and compiled."""

import doctest
import inspect
import subprocess
import sys
from typing import Any

import lion_pytorch
import pytest
import timm.optim.lion
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import lion.optimizer
from lion import Lion
from lion.kernels import plain
from tests.lion.training import assert_same, parameters, train

NAN, INF = float("nan"), float("inf")


# Against other implementations


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
