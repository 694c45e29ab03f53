"""Lion on sharded parameters: two processes, each with half of every weight, end where one process does.

Run as a program (rank, rendezvous file, result file) this file is one of the two processes.
"""

import sys
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lion import Lion
from tests import two_processes

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs torch.distributed with gloo"
)

STEPS, RESUME = 6, 3
VARIANTS: dict[str, dict[str, Any]] = {
    "loop": {"foreach": False},
    "lists": {"foreach": True},
    "capturable": {"capturable": True},
    "bfloat16": {"momentum_dtype": "bfloat16", "foreach": True},
    "variants": {"cautious": True, "cautious_decay": True, "corrected_decay": True, "clip_rms": 1.0},
}


def build() -> nn.Module:
    """Sizes that two processes can't share evenly, and a bias of one number that only one of them holds."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1)).double()


def optimizer_for(model: nn.Module, variant: dict[str, Any]) -> Lion:
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    matrices = [p for name, p in model.named_parameters() if name.endswith("weight")]
    return Lion([{"params": matrices, "weight_decay": 0.3}, {"params": biases}], lr=0.02, **variant)


def fit(model: nn.Module, optimizer: Lion, first: int, last: int, rank: int = 0, processes: int = 1) -> None:
    """Train on the batch's part of this process; a part's mean loss averages to the batch's."""
    for step in range(first, last):
        random = torch.Generator().manual_seed(step)
        x = torch.randn(12, 5, generator=random, dtype=torch.float64)
        y = x.prod(1, keepdim=True)
        part = slice(rank * 12 // processes, (rank + 1) * 12 // processes)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[part]), y[part]).backward()
        optimizer.step()


def whole(model: nn.Module, optimizer: Lion) -> dict[str, dict[str, Tensor]]:
    """Weights and momenta, put together from all processes."""

    def full(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()

    named = dict(model.named_parameters())
    return {
        "weights": {name: full(p) for name, p in named.items()},
        "momenta": {name: full(optimizer.state[p]["exp_avg"]) for name, p in named.items()},
    }


def process(rank: int, rendezvous: str, result: str) -> None:
    """One of two processes: every variant under FSDP2, once through and once by way of a checkpoint."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))

    def sharded() -> nn.Module:
        model = build()
        for layer in (model[0], model[2]):
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    ends: dict[str, Any] = {}
    for name, variant in VARIANTS.items():
        model = sharded()
        optimizer = optimizer_for(model, variant)
        fit(model, optimizer, 0, RESUME, rank, 2)
        for p in model.parameters():
            momentum = optimizer.state[p]["exp_avg"]
            assert isinstance(p, DTensor)
            assert isinstance(momentum, DTensor)
            assert momentum.placements == p.placements
            assert momentum.to_local().shape == p.to_local().shape
        options = StateDictOptions(full_state_dict=True)
        weights, state = get_state_dict(model, optimizer, options=options)
        fit(model, optimizer, RESUME, STEPS, rank, 2)
        ends[name] = whole(model, optimizer)

        # A state dict of the shards, as torch itself loads it.
        again = sharded()
        resumed = optimizer_for(again, variant)
        fit(again, resumed, 0, RESUME, rank, 2)
        copied = optimizer_for(again, variant)
        copied.load_state_dict(resumed.state_dict())
        fit(again, copied, RESUME, STEPS, rank, 2)
        ends[f"{name}, resumed from shards"] = whole(again, copied)

        again = sharded()
        resumed = optimizer_for(again, variant)
        set_state_dict(again, resumed, model_state_dict=weights, optim_state_dict=state, options=options)
        fit(again, resumed, RESUME, STEPS, rank, 2)
        ends[f"{name}, resumed from the whole"] = whole(again, resumed)

    def rounded(fused: bool | None, by_checkpoint: bool) -> list[Tensor]:
        """The weights of a sharded bfloat16 model after six steps with stochastic rounding."""
        torch.manual_seed(0)
        model = fully_shard(nn.Linear(40, 30).bfloat16(), mesh=mesh)
        optimizer = Lion(model.parameters(), lr=1e-4, stochastic_rounding=True, fused=fused)
        for step in range(STEPS):
            if by_checkpoint and step == RESUME:
                options = StateDictOptions(full_state_dict=True)
                weights, state = get_state_dict(model, optimizer, options=options)
                optimizer = Lion(model.parameters(), lr=1.0, stochastic_rounding=True, fused=fused)
                set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state, options=options)
            torch.manual_seed(100 * step + rank)  # as the generators of processes differ
            model(torch.randn(2, 40).bfloat16()).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return [p.full_tensor().detach() for p in model.parameters()]

    ends["rounded"] = {
        "plain": rounded(False, False),
        "fused": rounded(None, False),
        "resumed": rounded(None, True),
    }
    if rank == 0:
        torch.save(ends, result)
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the two processes ended with."""
    results: dict[str, Any] = two_processes.results(__file__, tmp_path_factory.mktemp("fsdp"))
    return results


@pytest.mark.parametrize(
    "way", ["", ", resumed from shards", ", resumed from the whole"], ids=lambda way: way or "through"
)
@pytest.mark.parametrize("name", list(VARIANTS))
def test_two_processes_end_where_one_does(ends: dict[str, Any], name: str, way: str) -> None:
    """In float64, where averaging gradients over two halves of a batch differs by little enough for no sign to turn."""
    model = build()
    optimizer = optimizer_for(model, VARIANTS[name])
    fit(model, optimizer, 0, STEPS)
    alone, together = whole(model, optimizer), ends[name + way]
    torch.testing.assert_close(together["weights"], alone["weights"], rtol=1e-9, atol=1e-12)
    # A bfloat16 momentum may round to a neighbour.
    tolerance = {"rtol": 2**-7, "atol": 1e-12} if "bfloat16" in name else {"rtol": 1e-6, "atol": 1e-12}
    for key, momentum in alone["momenta"].items():
        assert together["momenta"][key].dtype == momentum.dtype
        torch.testing.assert_close(together["momenta"][key], momentum, **tolerance)


def test_stochastic_rounding_of_shards(ends: dict[str, Any]) -> None:
    """Plain, compiled, and by way of a checkpoint: the same bits, and none where the weights began."""
    results = ends["rounded"]
    for name in ("fused", "resumed"):
        for one, other in zip(results["plain"], results[name], strict=True):
            assert torch.equal(one, other)
    torch.manual_seed(0)
    start = nn.Linear(40, 30).bfloat16().weight
    moved = (results["plain"][0].float() - start.float()).abs()
    assert 0 < moved.max() <= 0.02
    assert moved.mean() > 0


if __name__ == "__main__":
    process(int(sys.argv[1]), sys.argv[2], sys.argv[3])
