"""Every file of conf/optim and every option of Lion on DTensor shards of two processes, beside one process.

The gradients are given, so that nothing but the step can differ: the weights have to be equal bit for bit, where a step
does not add over a whole tensor in an order that depends on the shards. Run as a program this file is one process.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch import Tensor

import baselines.tensors
from lion import Lion
from recipes.runs.build import optimizer_factory
from recipes.training.param_groups import set_training
from tests import two_processes

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs torch.distributed with gloo"
)

FILES = sorted((Path(__file__).parents[2] / "conf" / "optim").glob("*.yaml"))
CONF = [path for path in FILES if "refuses_shards" not in OmegaConf.load(path)]
SHAPES = {"even": [(4,), (16, 40)], "uneven": [(1,), (7, 6), (17, 37)]}
BFLOAT16 = torch.bfloat16
STEPS = 3
Make = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
LIONS: dict[str, tuple[dict[str, Any], list[torch.dtype]]] = {  # options, and the types of weights to try them on
    "loop": ({"fused": False}, [torch.float32, BFLOAT16]),
    "lists": ({"foreach": True}, [torch.float32, BFLOAT16, torch.float16]),
    "kernel": ({"fused": None, "momentum_dtype": "bfloat16"}, [torch.float32]),
    "tensor lr": ({"lr": torch.tensor(0.01)}, [torch.float32]),
    "storage": ({"momentum_dtype": "bfloat16", "momentum_arithmetic": "storage"}, [torch.float32, BFLOAT16]),
    "cautious": ({"cautious": True}, [torch.float32, torch.float64, BFLOAT16, torch.float16]),
    "clip_rms": ({"clip_rms": 0.5}, [torch.float32, torch.float64, BFLOAT16]),
    "cautious, clip_rms": ({"cautious": True, "clip_rms": 1.0}, [torch.float32, torch.float64, BFLOAT16]),
    "cautious_decay": ({"cautious_decay": True}, [torch.float32, BFLOAT16]),
    "corrected_decay": ({"corrected_decay": True}, [torch.float32]),
    "stochastic_rounding": ({"stochastic_rounding": True}, [BFLOAT16]),
    "stochastic_rounding, plain": ({"stochastic_rounding": True, "fused": False}, [BFLOAT16]),
    "all": (
        {"stochastic_rounding": True, "cautious": True, "cautious_decay": True, "corrected_decay": True, "clip_rms": 1},
        [BFLOAT16],
    ),
}
# Sums over a tensor in another order: factored second moments, norms, inner products. The rest has the same bits.
ROUNDED = ("adafactor", "cautious_lion", "prodigy", "program5", "program8")
IN_PLACE = ("mars", "soap")  # torch refuses of shards what these do to sums over a tensor


def made(optim: Any) -> Make:
    """What makes an optimizer; its library is imported when it does."""
    return lambda groups: optimizer_factory(optim)(groups)


def cases() -> Iterator[tuple[str, Make, torch.dtype, bool]]:
    """Name, what makes the optimizer, type of weights, and whether our classes are to step all tensors at once."""
    for path in CONF:
        optim = OmegaConf.load(path)
        yield path.stem, made(optim), torch.float32, False
        if str(optim._target_).startswith("baselines."):
            yield f"{path.stem}, lists", made(optim), torch.float32, True
    for number in (5, 8):
        optim = OmegaConf.load(next(path for path in CONF if path.stem == "program"))
        optim.update({"program": f"program{number}", "lr": 1e-3})
        yield f"program{number}", made(optim), torch.float32, False
    for name, (options, dtypes) in LIONS.items():
        for dtype in dtypes:
            make = lambda groups, given=options: Lion(groups, **{"lr": 0.01, "weight_decay": 0.3} | given)  # noqa: E731
            yield f"lion, {name}, {str(dtype).removeprefix('torch.')}", make, dtype, False


CASES = {name: case for name, *case in cases()}


def trained(make: Make, dtype: torch.dtype, shapes: list[tuple[int, ...]], place: Callable[[Tensor], Tensor]) -> Any:
    """Weights after some steps, whose tensors are placed by `place`."""
    random = torch.Generator().manual_seed(0)
    draw = lambda shape: torch.randn(shape, generator=random).to(dtype)  # noqa: E731
    params = [torch.nn.Parameter(place(draw(shape))) for shape in shapes]
    optimizer = make([{"params": params}])
    set_training(optimizer, True)
    for _ in range(STEPS):
        for p, shape in zip(params, shapes, strict=True):
            p.grad = place(draw(shape) * (torch.rand(shape, generator=random) > 0.2))
        optimizer.step()
    return [p.detach() for p in params]


def all_at_once(group: dict[str, Any]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """As on an accelerator."""
    yield group["params"], [p.grad for p in group["params"]]


def process(rank: int, rendezvous: str, result: str) -> None:
    """One of two processes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    one_by_one = baselines.tensors.with_gradients
    ends: dict[str, Any] = {}
    for name, (make, dtype, together) in CASES.items():
        baselines.tensors.with_gradients = all_at_once if together else one_by_one
        for kind, shapes in SHAPES.items():
            placements = {"": Shard(0)}
            if kind == "uneven" and "stochastic" in name:
                placements |= {", columns": Shard(1), ", replicas": Replicate()}
            for where, placement in placements.items():
                taken = [shape for shape in shapes if where != ", columns" or len(shape) > 1]
                weights = trained(make, dtype, taken, lambda t, at=placement: distribute_tensor(t, mesh, [at]))
                ends[f"{name}, {kind}{where}"] = [weight.full_tensor() for weight in weights]
    for path in (path for path in FILES if path.stem in IN_PLACE):
        try:
            trained(
                optimizer_factory(OmegaConf.load(path)),
                torch.float32,
                SHAPES["even"],
                lambda t: distribute_tensor(t, mesh, [Shard(0)]),
            )
        except RuntimeError as error:
            ends[path.stem] = str(error)
    if rank == 0:
        torch.save(ends, result)
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes ended with."""
    results: dict[str, Any] = two_processes.results(__file__, tmp_path_factory.mktemp("sharded"))
    return results


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_shards_end_where_the_whole_does(
    ends: dict[str, Any], name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, dtype, together = CASES[name]
    if together:
        monkeypatch.setattr(baselines.tensors, "with_gradients", all_at_once)
    for where in ("", ", columns", ", replicas"):
        sharded = ends.get(f"{name}, {kind}{where}")
        if sharded is None:
            continue
        shapes = [shape for shape in SHAPES[kind] if where != ", columns" or len(shape) > 1]
        whole = trained(make, dtype, shapes, lambda t: t)
        start = trained(lambda groups: torch.optim.SGD(groups, lr=0.0), dtype, shapes, lambda t: t)
        moved = [not torch.equal(one, before) for one, before in zip(whole, start, strict=True)]
        assert sum(moved) >= len(moved) - 1, "a step that moves nothing shows nothing"
        for one, other in zip(whole, sharded, strict=True):
            tolerance = {"rtol": 1e-5, "atol": 1e-5} if name in ROUNDED else {"rtol": 0.0, "atol": 0.0}
            torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_reason_why_a_step_refuses_shards_is_still_there(ends: dict[str, Any], name: str) -> None:
    assert "in-place operations that require placement changes are not supported" in ends[name]


if __name__ == "__main__":
    process(int(sys.argv[1]), sys.argv[2], sys.argv[3])
