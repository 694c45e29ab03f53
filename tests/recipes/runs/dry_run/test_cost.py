"""The dry run against hand-computed figures, against real tensors, and against torch's own memory tracker."""

import math
import resource
from collections.abc import Callable
from typing import Any

import pytest
import timm
import timm.optim
import torch
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn.attention import SDPBackend, sdpa_kernel

from recipes.errors import ConfigError
from recipes.runs.dry_run import memory_estimate as tracing
from recipes.runs.dry_run.cost import Division, Footprint, as_tuned, devices_needed, estimate, parse_bytes, render
from recipes.runs.dry_run.memory_estimate import (
    Activations,
    Batch,
    Flops,
    Shards,
    count_flops,
    kept_for_backward,
    optimizer_state,
    trace_activations,
)
from tests.recipes.conftest import composed

GIB = 2**30
PAPER = {"proj_drop_rate": 0.1, "pos_drop_rate": 0.1, "drop_path_rate": 0.1}


class Bfloat16Momentum(torch.optim.Optimizer):
    """As many bytes as an optimizer with a bfloat16 first moment, and a float32 second one or none."""

    def __init__(self, params: Any, second: bool) -> None:
        super().__init__(params, {"second": second})

    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["first"] = torch.zeros_like(p, dtype=torch.bfloat16)
                if group["second"]:
                    self.state[p]["second"] = torch.zeros_like(p)


OPTIMIZERS = {"adamw": lambda g: Bfloat16Momentum(g, True), "lion": lambda g: Bfloat16Momentum(g, False)}


def meta(model_fn: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return model_fn().train()


def images(n: int, size: int = 32, device: str = "meta") -> Batch:
    x = torch.empty(n, 3, size, size, device=device)
    return {"x": x, "y": torch.zeros(n, dtype=torch.long, device=device)}


def classify(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))


def vectors(n: int) -> Batch:
    return {"x": torch.empty(n, 16, device="meta"), "y": torch.empty(n, 8, device="meta")}


def regress(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.mse_loss(model(batch["x"]).float(), batch["y"])


def tiny_vit() -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=48, num_heads=3, num_classes=10, **PAPER
    )


def tiny_resnet() -> nn.Module:
    return timm.create_model("resnet10t", num_classes=10)


def footprint(**changes: Any) -> Footprint:
    figures = {
        "num_parameters": 100,
        "trainable": 100,
        "parameter_bytes": 400,
        "gradient_bytes": 400,
        "ema_bytes": 0,
        "optimizer_state_bytes": {},
        "activations": Activations(0, 10, 0, 0),
        "activations_unfused": Activations(0, 10, 0, 0),
        "shards": Shards(0, 0, 0, 0, 0),
        "activations_checkpointed": Activations(0, 5, 0, 0),
        "flops": Flops(1, 3, 0),
    }
    return Footprint(**{**figures, **changes})


@pytest.mark.parametrize(
    ("text", "size"),
    [("32GiB", 32 * GIB), ("80GB", 80 * 10**9), ("1.5TiB", 3 * 2**39), ("512 MiB", 2**29), (1024, 1024), ("9b", 9)],
)
def test_sizes_are_read(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "lots", "32GiBs", "-1GB", "0", "GiB", "3iB", "1e9"])
def test_what_is_no_size_says_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match="32GiB"):
        parse_bytes(text)


def test_activations_of_an_mlp_by_hand() -> None:
    # The batch, ReLU's output and mse_loss's input, all in float32.
    kept = trace_activations(meta(mlp), regress, vectors, None, fused=True)
    assert kept == Activations(0, 4 * (16 + 8 + 32 + 8), 0, 4 * 32)


def test_activations_of_an_mlp_under_autocast_by_hand() -> None:
    # The batch and mse_loss's input in float32; x, ReLU's output and the second weight in bfloat16. The first
    # weight has nobody to pass a gradient to.
    kept = trace_activations(meta(mlp), regress, vectors, torch.bfloat16, fused=True)
    assert kept == Activations(2 * 32 * 8, 4 * (16 + 8 + 8) + 2 * (16 + 32), 0, 2 * 32)
    assert not torch.is_autocast_enabled("cuda")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("model_fn", [tiny_vit, tiny_resnet])
def test_fake_tensors_keep_what_real_ones_keep(model_fn: Callable[[], nn.Module], dtype: torch.dtype | None) -> None:
    kept = trace_activations(meta(model_fn), classify, images, dtype, fused=False, device="cpu")
    model = model_fn().train()
    # Under the CPU's autocast, batch norm keeps its two statistics a channel in float32, its fake in bfloat16.
    channels = sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    statistics = 4 * channels if dtype else 0
    for n in (3, 8):
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", dtype, enabled=dtype is not None):
            real, _ = kept_for_backward(model, classify, images(n, device="cpu"))
        assert kept.constant + kept.per_example * n + kept.per_pair * n**2 + statistics == real


def test_dropout_on_a_gpu_keeps_a_byte_an_element() -> None:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return model(batch["x"]).sum()

    def model_fn() -> nn.Module:
        return nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.1))

    assert trace_activations(meta(model_fn), loss, vectors, None, fused=True).per_example == 4 * (16 + 8) + 32


def test_fused_attention_keeps_no_matrix() -> None:
    heads, length, width = 2, 64, 8

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Parameter(torch.empty(3))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(*(x * scale for scale in self.qkv))

    def batch_fn(n: int) -> Batch:
        return {"x": torch.empty(n, heads, length, width, device="meta")}

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return model(batch["x"]).sum()

    model = meta(Attention)
    fused = trace_activations(model, loss, batch_fn, None, fused=True)
    tensors = 5 * heads * length * width  # x, q, k, v and the output
    assert fused.per_example == 4 * (tensors + heads * length)  # and the log-sum-exp
    assert fused.largest_per_example == 4 * heads * length * width
    unfused = trace_activations(model, loss, batch_fn, None, fused=False)
    assert unfused.largest_per_example == 4 * heads * length * length
    assert unfused.per_example > fused.per_example


def test_a_contrastive_loss_grows_with_the_square_of_the_batch() -> None:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        z = model(batch["x"])
        return (z @ z.T).logsumexp(1).mean()

    kept = trace_activations(meta(mlp), loss, vectors, None, fused=True)
    assert kept.per_pair == 4
    assert kept.peak(1000) >= 3 * 4 * 1000**2


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("model_fn", [tiny_vit, tiny_resnet])
def test_the_peak_of_a_step_is_covered(model_fn: Callable[[], nn.Module], dtype: torch.dtype | None) -> None:
    model, n = meta(model_fn), 256
    kept = trace_activations(model, classify, images, dtype, fused=False, device="cpu")
    with tracing._fake("cpu", dtype):
        fake, batch = tracing._copy(model, "cpu"), images(n, device="cpu")
        tracker = MemTracker()
        tracker.track_external(fake, *batch.values())
        with tracker:
            classify(fake, batch).backward()
        peaks = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    peak = next(size for kind, size in peaks.items() if str(getattr(kind, "name", kind)) == "Total")
    weights = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    gradients = sum(p.nbytes for p in model.parameters())
    assert peak <= weights + gradients + kept.constant + kept.peak(n) <= 1.25 * peak


def test_flops_of_an_mlp_by_hand() -> None:
    forward = 2 * (16 * 32 + 32 * 8)
    # Backward: both weights' gradients and the hidden layer's; the input needs none.
    assert count_flops(meta(mlp), regress, vectors) == Flops(forward, forward + 2 * (16 * 32 + 2 * 32 * 8), 0)


def test_flops_of_vit_b16() -> None:
    layers, length, width, classes = 12, 197, 768, 1000
    block = 24 * length * width**2 + 4 * length**2 * width
    expected = layers * block + 2 * 196 * (16 * 16 * 3) * width + 2 * width * classes
    model = meta(lambda: timm.create_model("vit_base_patch16_224"))
    flops = count_flops(model, classify, lambda n: images(n, 224))
    patches = 2 * 196 * (16 * 16 * 3) * width
    assert flops.forward == expected
    assert flops.forward / 2e9 == pytest.approx(17.58, rel=0.01)  # GMACs, as timm and torchvision list it
    assert flops.both == 3 * flops.forward - patches  # no gradient to the pixels
    assert flops.convolutions == 2 * patches  # forward, and the weight's gradient


@pytest.mark.parametrize(
    "factory",
    [
        torch.optim.AdamW,
        torch.optim.SGD,
        torch.optim.RMSprop,
        torch.optim.Adafactor,  # asks for values
        lambda groups: torch.optim.SGD(groups, momentum=0.9),
        lambda groups: torch.optim.AdamW(groups, amsgrad=True),
        lambda groups: timm.optim.Lion(groups, lr=1e-4),
        timm.optim.AdamP,
    ],
)
def test_optimizer_state_is_that_of_a_real_step(factory: Callable[..., torch.optim.Optimizer]) -> None:
    model = tiny_vit()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer = factory([{"params": list(model.parameters())}])
    optimizer.step()
    per_tensor = [s.values() for s in optimizer.state.values()]
    state = sum(t.nbytes for values in per_tensor for t in values if isinstance(t, Tensor) and t.shape != ())
    assert optimizer_state(meta(tiny_vit), factory) == pytest.approx(state, abs=4 * len(per_tensor))


def test_an_optimizer_that_refuses_meta_tensors_steps_on_fake_ones() -> None:
    tensors, numbers = len(list(tiny_vit().parameters())), sum(p.numel() for p in tiny_vit().parameters())
    state = optimizer_state(meta(tiny_vit), lambda groups: torch.optim.AdamW(groups, fused=True))
    assert state == 8 * numbers + 4 * tensors  # the step counters are on the device


def test_an_optimizer_that_fails_is_unknown_and_says_why() -> None:
    def factory(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        raise OSError("no such\n  kernel")

    assert optimizer_state(meta(mlp), factory) == "OSError: no such kernel"
    run = estimate(
        mlp,
        regress,
        vectors,
        {"good": torch.optim.AdamW, "bad": factory},
        global_batch=8,
        steps=1,
        autocast_dtype=None,
        device_memory=GIB,
    )
    assert list(run.devices) == ["good"]
    text = render(run, "bad")
    assert "bad: state unknown, OSError: no such kernel" in text
    assert text.index("> bad") < text.index("  good")


def test_frozen_parameters_have_no_gradient_and_no_state_and_groups_are_the_runs() -> None:
    def frozen() -> nn.Module:
        model = mlp()
        model[0].requires_grad_(False)
        model.register_buffer("offset", torch.empty(5))
        return model

    seen = []

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        seen.append(model)
        return [{"params": [model[2].weight], "weight_decay": 0.1}, {"params": [model[2].bias], "weight_decay": 0.0}]

    run = estimate(
        frozen,
        regress,
        vectors,
        {"adamw": torch.optim.AdamW},
        global_batch=8,
        steps=10,
        autocast_dtype=None,
        device_memory=GIB,
        param_groups=groups,
        ema=True,
    )
    f, last = run.footprint, 32 * 8 + 8
    assert seen
    assert (f.num_parameters, f.trainable) == (16 * 32 + 32 + last, last)
    assert f.parameter_bytes == f.ema_bytes == 4 * (f.num_parameters + 5)
    assert (f.gradient_bytes, f.optimizer_state_bytes) == (4 * last, {"adamw": 8 * last})
    assert f.flops.both == 2 * (16 * 32 + 32 * 8) + 2 * 32 * 8  # one weight's gradient


def test_tied_weights_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(100, 16), nn.Linear(16, 100, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x))

    def tokens(n: int) -> Batch:
        return {"x": torch.empty(n, 7, dtype=torch.long, device="meta")}

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(model(batch["x"]).flatten(0, 1), batch["x"].flatten())

    assert optimizer_state(meta(Tied), torch.optim.AdamW) == 8 * 1600
    # Tokens, the head's input, log-softmax's output, and the loss's one number (its sum of weights).
    kept = trace_activations(meta(Tied), loss, tokens, None, fused=True)
    assert (kept.constant, kept.per_example) == (4, 7 * (8 + 4 * 16 + 4 * 100))


@pytest.mark.parametrize("batch", [1, 12, 96, 100, 4096])
@pytest.mark.parametrize("memory", [900, 1100, 1500, 2500, 10**6])
@pytest.mark.parametrize("state", [0, 200, 800])
def test_devices_are_the_fewest_that_hold_the_run(batch: int, memory: int, state: int) -> None:
    d, usable = devices_needed(footprint(), state, batch, memory), 0.95 * memory

    def fewest(fixed: Callable[[int], float], counts: Any) -> int | None:
        return next((n for n in counts if fixed(n) + 10 * math.ceil(batch / n) <= usable), None)

    divisors = [n for n in range(1, batch + 1) if batch % n == 0]
    assert d.dividing == fewest(lambda n: 800 + state, divisors)
    assert d.power_of_two == fewest(lambda n: 800 + state, [2**k for k in range(13) if 2**k <= batch])
    assert d.sharded == fewest(lambda n: math.ceil((800 + state) / n), divisors[1:])  # shard=true needs two
    assert d.micro_batch == (min(batch, int((usable - 800 - state) // 10)) if usable >= 810 + state else None)


def test_a_model_larger_than_a_device_needs_sharding() -> None:
    d = devices_needed(footprint(parameter_bytes=4000), 200, 64, 1000)
    assert (d.dividing, d.power_of_two, d.micro_batch) == (None, None, None)
    assert d.sharded == 8  # (4000 + 400 + 200) / 8 + 10 · 8 = 655; on 4 devices 1,310
    assert d.bytes_per_device == 655


def test_what_is_gathered_stays_whole_on_each_device() -> None:
    whole = Shards(root=100, root_gradients=50, work=200, constant=30, buffers=20)
    d = devices_needed(footprint(parameter_bytes=4020, shards=whole), 200, 64, 1000)
    assert d.sharded == 16  # (4000 + 400 + 200) / 16 + 350 + 10 · 4 = 677.5; on 8 devices 1,005
    assert d.bytes_per_device == 678


@pytest.mark.parametrize(
    ("division", "sharded", "on_each"),
    [  # 4000 bytes of weights, 400 of gradients, 200 of state, 20 of buffers; 64 examples of 10 bytes; 950 usable
        (Division(), 16, math.ceil(4600 / 16 + 350 + 40)),
        (Division(accumulate=4, reduce_every_micro_batch=True), 8, math.ceil(4600 / 8 + 350 + 20)),
        (Division(accumulate=2), 32, math.ceil(4200 / 32 + 350 + 400 - 50 + 10)),  # gradients stay whole
        (Division(accumulate=4), None, None),  # 16 devices at most, and they would have 973
        (Division(shard_size=16), 16, math.ceil(4600 / 16 + 350 + 40)),
        (Division(shard_size=8), 32, math.ceil(4600 / 8 + 350 + 20)),  # 16 devices would have 965
        (Division(shard_size=4), None, None),  # 1,150 of a quarter of the model, however many devices there are
        (Division(accumulate=8, shard_size=8, reduce_every_micro_batch=True), 8, math.ceil(4600 / 8 + 350 + 10)),
        (Division(accumulate=8, shard_size=16), None, None),  # 8 devices at most divide what 8 micro-batches leave
    ],
)
def test_micro_batches_and_copies_in_shards(division: Division, sharded: int | None, on_each: int | None) -> None:
    shards = Shards(root=100, root_gradients=50, work=200, constant=30, buffers=20)
    d = devices_needed(footprint(parameter_bytes=4020, shards=shards), 200, 64, 1000, division)
    assert d.dividing is None
    assert (d.sharded, d.bytes_per_device) == (sharded, on_each)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_blocks_are_gathered_one_at_a_time_in_the_type_that_they_compute_in(dtype: torch.dtype | None) -> None:
    run = estimate(
        tiny_vit, classify, images, {}, global_batch=8, steps=1, autocast_dtype=dtype, device_memory=GIB
    )  # fmt: skip
    vit = tiny_vit()
    blocks = sum(p.numel() for p in vit.blocks[0].parameters())
    matrices = sum(p.numel() for m in vit.blocks[0].modules() if isinstance(m, nn.Linear) for p in m.parameters())
    edges = sum(p.numel() for module in (vit.patch_embed, vit.head) for p in module.parameters())
    rest = sum(p.numel() for p in vit.parameters()) - 2 * blocks
    shards = run.footprint.shards
    if dtype is None:
        assert (shards.root, shards.work) == (2 * 4 * rest, 4 * 4 * blocks)
    else:  # two of a block's matrices, gradients in bfloat16, and their sum in float32
        assert (shards.root, shards.work) == (2 * 4 * (rest - edges), (2 * 2 + 2 + 4) * matrices)
    assert shards.constant < 100  # the loss's own numbers
    assert run.footprint.activations.constant >= (0 if dtype is None else 2 * 2 * matrices)


def test_a_loss_that_needs_values_is_a_clear_error() -> None:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return regress(model, batch) * batch["x"].sum().item()

    with pytest.raises(ConfigError, match="cannot follow this task's loss"):
        estimate(mlp, loss, vectors, {}, global_batch=8, steps=1, autocast_dtype=torch.bfloat16, device_memory=GIB)
    assert not torch.is_autocast_enabled("cuda")


def test_a_terabyte_of_weights_takes_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = estimate(
        lambda: nn.Sequential(*[nn.Linear(16, 2**34, bias=False), nn.Linear(2**34, 8, bias=False)]),
        regress,
        vectors,
        {"adamw": torch.optim.AdamW},
        global_batch=64,
        steps=1,
        autocast_dtype=torch.bfloat16,
        device_memory=80 * GIB,
    )
    assert run.footprint.parameter_bytes == 24 * 4 * 2**34
    assert run.devices["adamw"].dividing is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_the_papers_chips_for_vit_b16() -> None:
    # Section 5 of the paper: 16 TPU V4 chips of 32 GiB with AdamW and 8 with Lion. docs/dry_run.md has the account.
    run = estimate(
        lambda: timm.create_model("vit_base_patch16_224", **PAPER),
        classify,
        lambda n: images(n, 224),
        OPTIMIZERS,
        global_batch=4096,
        steps=90_000,
        autocast_dtype=torch.bfloat16,
        device_memory=parse_bytes("32GiB"),
    )
    f = run.footprint
    assert f.optimizer_state_bytes == {"adamw": 6 * 86_567_656, "lion": 2 * 86_567_656}
    assert (run.devices["adamw"].dividing, run.devices["lion"].dividing) == (16, 16)
    assert run.devices["adamw"].micro_batch < run.devices["lion"].micro_batch < 1.02 * run.devices["adamw"].micro_batch
    # Eight chips for Lion and not for AdamW: only in a window of activations one hundredth wide.
    low, high = ((32 * GIB - (8 + state) * f.num_parameters) / 512 for state in (6, 2))
    assert (low / 1e6, high / 1e6) == pytest.approx((64.74, 65.42), abs=0.005)
    assert f.activations.peak(1) > high
    text = render(run, "lion")
    assert text.index("> lion") < text.index("  adamw")
    assert "86,567,656 parameters" in text


@pytest.mark.parametrize("task", ["task=vit_b16", "task=gpt2_speed_run"])
def test_other_optimizers_stand_beside_the_chosen_one_as_the_tasks_table_has_them(task: str) -> None:
    chosen = composed(task, "scale=gpu", "optim=lion", "optim.lr=1e-6")
    for name in ("adamw", "muon", "radam", "cautious_lion"):
        assert as_tuned(name, chosen) == composed(task, "scale=gpu", f"optim={name}").optim
