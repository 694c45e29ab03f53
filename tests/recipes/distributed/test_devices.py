"""Shards on two processes: saved whole, loaded again, and trained on as if nothing had happened."""

import gc
import io
import re
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from accelerate import PartialState
from omegaconf import DictConfig, OmegaConf
from torch import nn

from recipes.distributed import devices, sharding
from recipes.errors import ConfigError
from recipes.runs.build import optimizer_factory
from tests.processes import end, start

ROOT = Path(__file__).resolve().parents[3]
OPTIMIZERS = ("adamw", "lion", "adafactor", "amsgrad", "radam")


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    model(torch.randn(4, 40)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def _worker() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    wrong = []
    for name in OPTIMIZERS:
        config = OmegaConf.load(ROOT / "conf" / "optim" / f"{name}.yaml")
        assert isinstance(config, DictConfig)

        def make(config: DictConfig = config) -> tuple[nn.Module, torch.optim.Optimizer]:
            torch.manual_seed(0)
            model = nn.Linear(40, 36)
            sharding.shard(model, torch.device("cpu"), "fp32")
            optimizer = optimizer_factory(config)([{"params": list(model.parameters())}])
            devices.name_dtypes(optimizer)
            return model, optimizer

        model, optimizer = make()
        _train(model, optimizer, 1)
        _train(model, optimizer, 2)
        whole = list(devices.state_of(model, optimizer, sharded=True)) if rank == 0 else [None, None]
        if rank != 0:
            devices.state_of(model, optimizer, sharded=True)
        dist.broadcast_object_list(whole)
        file = io.BytesIO()
        torch.save(whole[1], file)
        file.seek(0)
        again, its_optimizer = make()
        devices.restore(again, its_optimizer, whole[0], torch.load(file, weights_only=True), sharded=True)
        _train(model, optimizer, 3)
        _train(again, its_optimizer, 3)
        for one, other in zip(model.parameters(), again.parameters(), strict=True):
            if not torch.equal(one.to_local(), other.to_local()):
                wrong.append(f"{name} on process {rank}")
        kinds = [{k: v.dtype for k, v in s.items() if hasattr(v, "dtype")} for s in its_optimizer.state.values()]
        if kinds != [{k: v.dtype for k, v in s.items() if hasattr(v, "dtype")} for s in optimizer.state.values()]:
            wrong.append(f"{name} on process {rank}: types {kinds}")
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(4)]
    stages = nn.Sequential(nn.Sequential(*blocks[:2]), nn.Sequential(*blocks[2:]))
    expected = stages(torch.ones(2, 8)).sum().item()
    sharding.shard(stages, torch.device("cpu"), "fp32")  # blocks within stages, as in CoAtNet
    if not torch.isclose(stages(torch.ones(2, 8)).sum(), torch.tensor(expected)):
        wrong.append(f"nested blocks on process {rank}")
    assert not wrong
    dist.destroy_process_group()


def test_sharded_state_is_saved_whole_and_loaded_again(tmp_path: Path) -> None:
    said = tmp_path / "said"
    assert end(start(_worker, said=said), said) == [0, 0], [path.read_text() for path in tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("processes", "overrides", "said"),
    [
        (3, (), "batch_size=16 is not divisible by 3 processes x accumulate=1; the nearest that are: 15, 18"),
        (4, ("accumulate=8",), "not divisible by 4 processes x accumulate=8; the nearest that are: 32"),
        (1, ("shard=true",), "start the same command with torchrun --nproc_per_node 2 instead of python, or"),
    ],
)
def test_what_so_many_processes_cannot_do_is_refused(
    tiny, monkeypatch: pytest.MonkeyPatch, processes: int, overrides: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(
        devices, "Accelerator", lambda **_: SimpleNamespace(num_processes=processes, device=torch.device("cpu"))
    )
    with pytest.raises(ConfigError) as refused:
        devices.start(tiny(*overrides))
    assert re.search(rf"{re.escape(said)}(?!,)", str(refused.value))
    monkeypatch.setattr(
        devices, "Accelerator", lambda **_: SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    )
    assert devices.start(tiny()).num_processes == 2


def test_one_process_trains_in_one_precision_after_another(tiny) -> None:
    """As a sweep does, and the report on a GPU."""
    used = [devices.start(tiny(f"precision={name}")).mixed_precision for name in ("bf16", "fp32", "bf16")]
    assert used == ["bf16", "no", "bf16"]


def test_one_process_trains_on_one_device_after_another(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    devices.start(tiny())
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("meta"))
    assert devices.start(tiny("device=cpu")).device.type == "cpu"


def test_an_earlier_runs_model_is_gone(tiny) -> None:
    """accelerate's wrapper for bfloat16 makes a cycle of it, which keeps its memory until a collection."""
    model = nn.Linear(3, 2)
    devices.start(tiny("precision=bf16")).prepare(model)
    kept = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert kept() is not None
        devices.start(tiny())
        assert kept() is None
    finally:
        gc.enable()


def test_float32_is_exact_within_a_block_and_as_before_behind_it(tiny) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        devices.set_precision(tiny("precision=fp32"), torch.device("cuda"))
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("high", True)
        with devices.exact_float32():
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("high", True)
        devices.set_precision(tiny("precision=fp32", "tf32=false"), torch.device("cuda"))
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_state_bytes_count_tensors_and_no_step_counters() -> None:
    weight = nn.Parameter(torch.ones(10, 10))
    weight.grad = torch.ones(10, 10)
    optimizer = torch.optim.AdamW([weight])
    assert devices.state_bytes(optimizer) == 0
    optimizer.step()
    assert devices.state_bytes(optimizer) == 2 * 100 * 4
