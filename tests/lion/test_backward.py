"""Steps inside the backward pass: the same bits as the ordinary step, and gradients that are not all alive."""

import doctest
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils._python_dispatch import TorchDispatchMode

import lion.backward
from lion import Lion, step_in_backward

LAYERS, WIDTH = 12, 64


def model(dtype: torch.dtype = torch.float32, tied: bool = True) -> nn.Module:
    """Layers of one size; with `tied`, one weight is used twice."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(WIDTH, WIDTH, bias=tied) for _ in range(LAYERS)]
    if tied:
        layers[-1].weight = layers[0].weight
    return nn.Sequential(*(module for layer in layers for module in (layer, nn.Tanh()))).to(dtype)


def fit(network: nn.Module, optimizer: Lion, first: int = 0, last: int = 6) -> None:
    schedule = CosineAnnealingLR(optimizer, 10)
    for step in range(first, last):
        x = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(step)).to(network[0].weight.dtype)
        optimizer.zero_grad()
        network(x).square().sum().backward()
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float32, {}),
        (torch.float32, {"fused": False, "momentum_dtype": "bfloat16"}),
        (torch.float32, {"momentum_dtype": "int8"}),
        (torch.float32, {"cautious": True, "clip_rms": 1.0}),
        (torch.bfloat16, {"stochastic_rounding": True}),
        (torch.bfloat16, {"stochastic_rounding": True, "fused": False}),
    ],
    ids=str,
)
def test_results_are_those_of_the_ordinary_step(dtype: torch.dtype, options: dict[str, Any]) -> None:
    networks = [model(dtype), model(dtype)]
    optimizers = []
    for network in networks:
        biases = [p for p in network.parameters() if p.ndim == 1]
        matrices = [p for p in network.parameters() if p.ndim == 2]
        groups = [{"params": biases}, {"params": matrices, "weight_decay": 0.5}]
        optimizers.append(Lion(groups, lr=0.01, **options))
    step_in_backward(optimizers[1])
    for network, optimizer in zip(networks, optimizers, strict=True):
        fit(network, optimizer)
    moved = model(dtype)
    for p, q, start in zip(*(network.parameters() for network in (*networks, moved)), strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, start)
        one, other = optimizers[0].state[p], optimizers[1].state[q]
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name]))


def test_a_checkpoint_and_what_follows_it() -> None:
    """Loading makes new groups and states; the hooks find them. Removed hooks leave the ordinary step."""
    straight, resumed = model(), model()
    first, second = Lion(straight.parameters(), lr=0.01), Lion(resumed.parameters(), lr=0.5)
    hooks = step_in_backward(second)
    fit(straight, first, 0, 3)
    resumed.load_state_dict(straight.state_dict())
    second.load_state_dict(first.state_dict())
    fit(straight, first, 3, 5)
    fit(resumed, second, 3, 5)
    for hook in hooks:
        hook.remove()
    fit(straight, first, 5, 7)
    fit(resumed, second, 5, 7)
    for p, q in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)
        assert q.grad is not None


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations have made and that are still alive, beside those of `before`."""

    def __init__(self, before: list[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = {tensor.untyped_storage()._cdata for tensor in before}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.note(tensor.untyped_storage())
        return result

    def note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone() -> None:
            self.known.discard(key)
            self.now -= size

        weakref.finalize(storage, gone)


def peak(prepare: Callable[[Lion], Any]) -> int:
    """The most bytes that a training step makes, after a first one that makes the momenta."""
    network = model(tied=False)
    optimizer = Lion(network.parameters(), lr=0.01)
    prepare(optimizer)
    fit(network, optimizer, 0, 1)
    optimizer.zero_grad()
    x = torch.ones(1, WIDTH)
    before = [*network.parameters(), *(state["exp_avg"] for state in optimizer.state.values())]
    with LiveBytes(before) as counter:
        network(x).square().sum().backward()
        optimizer.step()
    return counter.peak


def test_gradients_are_never_all_alive() -> None:
    """Twelve gradients of 16 KiB, and a few KiB of activations, which both ways have."""
    gradient = 4 * WIDTH * WIDTH
    ordinary, within = peak(lambda _: None), peak(step_in_backward)
    assert LAYERS * gradient <= ordinary <= (LAYERS + 1) * gradient
    assert gradient <= within <= 3 * gradient


def test_example_in_the_docstring() -> None:
    results = doctest.testmod(lion.backward)
    assert results.attempted >= 4
    assert results.failed == 0
