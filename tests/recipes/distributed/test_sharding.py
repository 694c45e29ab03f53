"""Shards on two processes: what is kept, and runs against the same runs on one process."""

import copy
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from recipes import protocol
from recipes.contrastive import recipe
from recipes.distributed import devices, processes, sharding
from recipes.errors import ConfigError
from recipes.runs import experiment
from recipes.runs.dry_run.memory_estimate import kept_for_backward
from recipes.runs.record import folder_of, read_metrics
from recipes.training import sampler
from tests.processes import end, start, train
from tests.recipes.conftest import composed

SMALL = ["tracker=none", "steps=6", "eval_every=3", "checkpoint_every=3", "log_every=1", "batch_size=16"]
VIT = ["task=vit_b16", *SMALL, "model.args.embed_dim=16", "model.args.num_heads=2", "schedule.warmup_steps=2"]
LIT = [
    "task=lit_b16_b",
    "optim=adamw",
    *SMALL,
    "+data.options.variants=1",
    "model.args.image.args.embed_dim=16",
    "model.args.image.args.depth=1",
    "model.args.text.num_hidden_layers=2",
    "model.args.text.hidden_size=16",
    "model.args.text.intermediate_size=16",
]
BASIC = [*LIT, "model.args.lock_image=false", "model.args.cache_features=false", "model.args.micro_batch=4"]


def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=4, embed_dim=48, num_heads=3, num_classes=10
    )


def classify(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


def measure(result: str) -> None:
    """What lives between forward and backward, in bytes, and the gradients, of shards in each precision."""
    processes.join(cpu=True)
    generator = torch.Generator().manual_seed(1)
    batch = {"x": torch.randn(8, 3, 32, 32, generator=generator), "y": torch.arange(8)}
    results: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        model = vit()
        sharding.shard(model, torch.device("cpu"), precision)
        results[precision] = kept_for_backward(model, classify, batch)[0]
        own = {name: value.chunk(2)[dist.get_rank()] for name, value in batch.items()}
        model.zero_grad()
        classify(model, own).backward()
        gradients = {name: p.grad.full_tensor() for name, p in model.named_parameters()}  # type: ignore[union-attr]
        results[f"{precision} gradients"] = gradients
    if processes.is_first():
        torch.save(results, result)


def test_no_copy_of_the_weights_lives_from_forward_to_backward(tmp_path: Path) -> None:
    said = tmp_path / "said"
    assert end(start(measure, str(tmp_path / "found"), said=said), said) == [0, 0]
    results = torch.load(tmp_path / "found")
    generator = torch.Generator().manual_seed(1)
    batch = {"x": torch.randn(8, 3, 32, 32, generator=generator), "y": torch.arange(8)}
    model = vit()
    replica = kept_for_backward(model, classify, batch)[0]
    weights = sum(p.numel() for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters())
    assert replica - results["bf16"] > 1.9 * weights  # autocast's copies, at 2 bytes
    assert results["fp32"] - results["bf16"] > 1.9 * weights
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(torch.bfloat16)
    assert results["bf16"] == kept_for_backward(model, classify, batch)[0]  # activations, and nothing else
    single = vit()
    classify(single, batch).backward()
    for name, parameter in single.named_parameters():
        assert parameter.grad is not None
        scale = parameter.grad.abs().max().item()
        for precision in ("fp32", "bf16"):
            gradient = results[f"{precision} gradients"][name]
            assert gradient.dtype == torch.float32
            torch.testing.assert_close(gradient, parameter.grad, rtol=0, atol=0.02 * scale, msg=name)


class Held(nn.Module):
    """Values of every kind: tied weights, buffers that are saved and that are not, a tensor in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.norm, self.scale = nn.BatchNorm1d(5), nn.Parameter(torch.rand(()))
        self.register_buffer("table", torch.rand(5), persistent=False)
        self.attribute = torch.rand(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.norm(self.second(self.first(x))) + self.table + self.attribute


def begin(_: str) -> None:
    processes.join(cpu=True)
    x = torch.arange(20.0).view(4, 5)
    with torch.device("meta" if dist.get_rank() else "cpu"):
        model = Held()
    sharding.shard(model, torch.device("cpu"), "fp32")
    assert torch.equal(model(x), Held()(x))
    model.zero_grad()
    model(x).square().sum().backward()
    assert model.first.weight is model.second.weight


def test_shards_begin_with_what_the_first_process_has_built(tmp_path: Path) -> None:
    said = tmp_path / "said"
    status = end(start(begin, "", said=said), said)
    assert status == [0, 0], "".join(Path(f"{said}-{rank}").read_text() for rank in range(2))


def count_reductions(each: bool, output: str) -> None:
    """How many gradients are exchanged by a run of three micro-batches a step, and what it comes to."""
    name = "reduce_scatter_single" if hasattr(dist, "reduce_scatter_single") else "reduce_scatter_tensor"  # older torch
    calls, reduce = [], getattr(dist, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return reduce(*arguments, **named)

    setattr(dist, name, counted)
    train([[*VIT, "shard=true", "accumulate=4", f"reduce_every_micro_batch={each}".lower(), f"output_dir={output}"]])
    print(f"exchanges: {len(calls)}")


def test_gradients_are_reduced_after_the_last_micro_batch_alone(tmp_path: Path) -> None:
    exchanges, losses = [], []
    for each in (True, False):
        said = tmp_path / f"said-{each}"
        status = end(start(count_reductions, each, str(tmp_path / str(each)), said=said), said)
        printed = Path(f"{said}-0").read_text()
        assert status == [0, 0], printed
        exchanges.append(int(printed.rpartition("exchanges: ")[2]))
        figures = measured(next((tmp_path / str(each)).glob("*/*/*")))
        losses.append([value for (_, split, name), value in figures.items() if (split, name) == ("train", "loss")])
    assert exchanges[0] == 4 * exchanges[1] > 0
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def hold_gradients(precision: str, output: str) -> None:
    """Bytes of gradients on a process between two micro-batches, and after the last one: whole, and its part."""
    processes.join(cpu=True)
    model: Any = vit()
    sharding.shard(model, torch.device("cpu"), precision)
    batch = {"x": torch.randn(4, 3, 32, 32), "y": torch.arange(4)}
    held = []
    for reduced in (False, True):
        model.set_requires_gradient_sync(reduced)
        classify(model, batch).backward()
        groups = {m._get_fsdp_state()._fsdp_param_group for m in model.modules() if isinstance(m, FSDPModule)}
        parts = [p for group in groups - {None} for p in group.fsdp_params]
        sums = [p.unsharded_accumulated_grad for p in parts] + [p._unsharded_param.grad for p in parts]
        split = [p.grad.to_local() for p in model.parameters() if p.grad is not None]
        held.append([sum(t.nbytes for t in tensors if t is not None) for tensors in (sums, split)])
    if processes.is_first():
        torch.save(held, output)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_stay_whole_until_the_last_micro_batch_as_the_dry_run_says(tmp_path: Path, precision: str) -> None:
    said = tmp_path / "said"
    status = end(start(hold_gradients, precision, str(tmp_path / "held"), said=said), said)
    assert status == [0, 0], Path(f"{said}-0").read_text()
    (between, its_parts), (after, parts) = torch.load(tmp_path / "held")
    whole = 4 * sum(p.numel() for p in vit().parameters())
    assert (between, its_parts, after) == (whole, 0, 0)
    assert whole / 2 <= parts < 0.55 * whole


def test_four_processes_hold_two_copies_in_two_parts_each(tmp_path: Path) -> None:
    runs = [[*VIT, "optim=adamw", "ema_decay=0.5", f"output_dir={tmp_path / name}"] for name in ("one", "four")]
    one = composed(*runs[0])
    assert experiment.run(one) == "completed"
    said = tmp_path / "said"
    status = end(start(train, [[*runs[1], "shard=true", "shard_size=2"]], count=4, said=said), said)
    assert status == [0, 0, 0, 0], Path(f"{said}-0").read_text()
    values, expected = measured(next((tmp_path / "four").glob("*/*/*"))), measured(folder_of(one))
    assert values.keys() == expected.keys()
    for key, value in values.items():
        assert value == pytest.approx(expected[key], rel=1e-5, abs=1e-6), key


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.scale = nn.Linear(6, 5), nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.reshape(()) * self.linear(x)


def trained(optimizer_class: type[torch.optim.Optimizer], prepare: Callable[[nn.Module], None]) -> Any:
    model = Scaled()
    prepare(model)
    return model, optimizer_class(model.parameters(), lr=0.1)  # type: ignore[call-arg]


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.ones(4, 6)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def exchange(_: str) -> None:
    """State goes from one process to shards and back; scalars among it."""
    processes.join(cpu=True)
    for kind in (torch.optim.AdamW, torch.optim.SGD):
        single, its_optimizer = trained(kind, lambda model: None)
        step(single, its_optimizer)
        split, optimizer = trained(kind, lambda model: sharding.shard(model, torch.device("cpu"), "fp32"))
        weights, state = copy.deepcopy((single.state_dict(), its_optimizer.state_dict()))
        devices.restore(split, optimizer, weights, state, sharded=True)
        for _ in range(2):
            step(single, its_optimizer)
            step(split, optimizer)
        found = devices.state_of(split, optimizer, sharded=True)
        weights, state = copy.deepcopy(processes.broadcast_from_first(lambda found=found: found))
        assert weights["scale"].shape == ()
        back, back_optimizer = trained(kind, lambda model: None)
        devices.restore(back, back_optimizer, weights, state, sharded=False)
        step(single, its_optimizer)
        step(back, back_optimizer)
        for name, value in single.state_dict().items():
            torch.testing.assert_close(back.state_dict()[name], value, rtol=1e-6, atol=1e-7, msg=name)


def test_a_run_in_shards_goes_on_from_one_process_and_the_other_way_round(tmp_path: Path) -> None:
    said = tmp_path / "said"
    status = end(start(exchange, "", said=said), said)
    assert status == [0, 0], Path(f"{said}-0").read_text()


class KilledError(BaseException):
    """Stands for the end of every process at once."""


def twice(whole: Sequence[Sequence[str]], cut: Sequence[Sequence[str]], data: Path) -> None:
    """Do runs, and do them again, killed at the step behind a checkpoint and begun anew."""
    read_data(data)
    train(whole)
    seed_all = sampler.seed_all

    def die(*key: int) -> None:
        if len(key) == 3 and key[1] == 4:  # (seed, step, process): the beginning of a step
            raise KilledError
        seed_all(*key)

    for run in cut:
        sampler.seed_all = die
        with pytest.raises(KilledError):
            train([run])
        sampler.seed_all = seed_all
        train([run])


def read_data(file: Path) -> None:
    """Have pairs come from a file: drawing them takes seconds."""
    recipe.load_data = lambda cfg: pickle.loads(file.read_bytes())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tower's weights."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "data").write_bytes(pickle.dumps(protocol.load_data(composed(*LIT))))
    torch.manual_seed(1)
    towers: Any = protocol.make(composed(*LIT, "init_from=x")).model()
    save_file({name: value.clone() for name, value in towers.image.state_dict().items()}, folder / "tower.safetensors")
    return folder


def runs(names: Sequence[str], place: Path, folder: str, *more: str) -> dict[str, list[str]]:
    tower = f"init_from={place / 'tower.safetensors'}"
    each = {
        "vit-average": [*VIT, "ema_decay=0.5", "optim=lion", "clip_norm=1.0"],
        "lit-average": [*LIT, tower, "ema_decay=0.5"],
        "basic-bf16": [*BASIC, tower, "precision=bf16"],
        "vit-schedule-free": [*VIT, "optim=schedule_free_adamw", "eval_every=2"],
        "vit-schedule-free-evaluated": [*VIT, "optim=schedule_free_adamw"],  # a checkpoint of weights for evaluation
    }
    return {name: [*each[name], f"output_dir={place / folder}-{name}", *more] for name in names}


def measured(folder: Path) -> dict[tuple[int, str, str], float]:
    lines = read_metrics(folder / "metrics.jsonl")
    return {(li["step"], li["split"], li["name"]): li["value"] for li in lines if li["split"] != "time"}


def saved(folder: Path) -> dict[str, Tensor]:
    (newest,) = (folder / "checkpoint").glob("step-*")
    files = [(file.stem, load_file(file)) for file in newest.glob("*.safetensors")]
    return {f"{kind} {name}": value for kind, tensors in files for name, value in tensors.items()}


@pytest.mark.parametrize(
    "names",
    [
        ("vit-average", "basic-bf16", "vit-schedule-free", "vit-schedule-free-evaluated"),
        pytest.param(("lit-average",), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_shards_train_as_one_process_and_go_on_after_a_kill_to_the_same_bits(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Sequence[str]
) -> None:
    said, data = tmp_path / "said", place / "data"
    whole, cut = (runs(names, place, folder, "shard=true") for folder in ("whole", "cut"))
    status = end(start(twice, [*whole.values()], [*cut.values()], data, said=said), said)
    assert status == [0, 0], Path(f"{said}-0").read_text()
    monkeypatch.setattr(recipe, "load_data", lambda cfg: pickle.loads(data.read_bytes()))
    assert Path(f"{said}-0").read_text().count("resuming from step 3") == len(cut)
    assert "step" not in Path(f"{said}-1").read_text()  # the first process speaks for both
    for name, overrides in runs(names, place, "one").items():
        one = composed(*overrides)
        assert experiment.run(one) == "completed"
        results, again = (folder_of(composed(*each[name])) for each in (whole, cut))
        expected, values = measured(folder_of(one)), measured(results)
        assert values.keys() == expected.keys()
        exact = "bf16" not in name
        for (at, split, figure), value in values.items():
            if exact or (split, figure) == ("train", "loss"):
                tolerance = 1e-5 if exact else 1e-3
                assert value == pytest.approx(expected[at, split, figure], rel=tolerance, abs=1e-6), (name, figure)
        assert measured(again) == values
        weights, others, single = saved(again), saved(results), saved(folder_of(one))
        assert weights.keys() == others.keys() == single.keys()
        assert all(torch.equal(value, others[key]) for key, value in weights.items()), name
        assert all(value.shape == single[key].shape for key, value in weights.items()), name


def refusals(names: Sequence[str]) -> None:
    """One of several processes: what a run in shards answers to each optimizer."""
    for name in names:
        try:
            experiment.run(composed("task=vit_b16", f"optim={name}", "shard=true", "tracker=none"))
        except ConfigError as error:
            print(error)


def test_optimizers_that_need_a_tensor_whole_refuse_shards_in_a_line_each(tmp_path: Path) -> None:
    reasons = {
        "kron": "its preconditioners are fitted to whole matrices",
        "lion_muon": "it orthogonalizes whole matrices",
        "mars": "timm's step clips the norm of each gradient in place, which torch refuses of shards",
        "muon": "it orthogonalizes whole matrices",
        "muon_lion": "it orthogonalizes whole matrices",
        "soap": "its preconditioners are sums over whole matrices",
    }
    said = tmp_path / "said"
    status = end(start(refusals, [*reasons], said=said), said)
    expected = [f"optim={name} does not take shard=true: {why}; set shard=false" for name, why in reasons.items()]
    for rank in (0, 1):
        assert Path(f"{said}-{rank}").read_text().splitlines() == expected
    assert status == [0, 0]
