"""The measurements of scripts/maintenance/gpu_report.py on a device, with sizes that tests can reduce."""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from recipes import protocol
from recipes.distributed import devices
from recipes.runs import build
from recipes.runs.dry_run import gpus
from recipes.training import param_groups

Figures = dict[str, Any]


def waiting(device: torch.device) -> Callable[[], None]:
    """A function that returns when the device has finished its work."""
    return torch.accelerator.synchronize if device.type != "cpu" else lambda: None


def copy_bandwidth(device: torch.device, elements: int, rounds: int = 20) -> Figures:
    """Bytes a second of copying a float32 array to another, each byte read and written; the median over rounds."""
    source, target, wait = torch.ones(elements, device=device), torch.empty(elements, device=device), waiting(device)
    seconds = []
    for _ in range(rounds + 1):
        wait()
        start = time.perf_counter()
        target.copy_(source)
        wait()
        seconds.append(time.perf_counter() - start)
    return {"elements": elements, "bytes_per_second": 8 * elements / statistics.median(seconds[1:])}


def training_speed(cfg: DictConfig, device: torch.device, batch: int, steps: int, warm: int = 3) -> Figures:
    """Steps a second of a plain loop on made-up examples, and the share of the device's peak that its FLOPs are.

    Args:
        cfg: of the run: its model, precision, clipping and optimizer.
        device: where it trains.
        batch: examples a step.
        steps: that are timed.
        warm: steps before them.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    devices.set_precision(cfg, device)
    torch.manual_seed(0)
    recipe = protocol.make(cfg)
    model = recipe.model().train().to(device)
    examples = {name: _made_up(name, value, cfg).to(device) for name, value in recipe.blank_batch(batch).items()}
    optimizer = build.optimizer_factory(cfg.optim)(
        param_groups.parameter_groups(model, cfg.decay, cfg.optim.weight_decay)
    )
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=cfg.precision == "bf16")
    wait = waiting(device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = recipe.loss(model, examples)["loss"]
        loss.backward()
        if cfg.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip_norm)
        optimizer.step()

    for _ in range(warm):
        step()
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    seconds = (time.perf_counter() - start) / steps
    flops = gpus.of_config(cfg).flops.both * batch
    figures: Figures = {"optimizer": cfg.optim.name, "batch": batch, "precision": cfg.precision, "steps": steps}
    figures |= {"steps_per_second": 1 / seconds, "flops_per_second": flops / seconds}
    if (gpu := gpus.called(device_name(device))) is not None:
        peak = 1e12 * (gpu.bf16 if cfg.precision == "bf16" else gpu.tf32)
        figures |= {"peak_of": gpu.name, "share_of_peak": flops / seconds / peak}
    if device.type == "cuda":
        figures["peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return figures


def _made_up(name: str, value: Tensor, cfg: DictConfig) -> Tensor:
    """Noise for images; valid indices for tokens and labels."""
    if value.is_floating_point():
        return torch.randn_like(value)
    rows = cfg.model.args.get("num_classes") or cfg.model.args.get("vocab_size") or 2
    return torch.randint(rows, value.shape)


def loop_share(cfg: DictConfig, rounds: int, block: int) -> Figures:
    """The suite's speed as a share of a minimal loop's, timed in turn; see scripts/maintenance/overhead.py."""
    from scripts.benchmark.round_robin import between, quartiles, ratios
    from scripts.maintenance.overhead import measure

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        ours, minimal, _ = measure(cfg, Path(folder), rounds, block)
    low, kept, high = quartiles(ratios(between(minimal), ours))
    return {"task": cfg.task.name, "optimizer": cfg.optim.name, "kept": kept, "low": low, "high": high}


def described(device: torch.device) -> Figures:
    """The device, its memory and the versions of what ran."""
    import platform

    import triton

    figures: Figures = {"device": device_name(device), "torch": torch.__version__, "python": platform.python_version()}
    if device.type == "cuda":
        figures["memory_bytes"] = torch.cuda.get_device_properties(device).total_memory
        figures |= {"cuda": torch.version.cuda, "triton": triton.__version__}
    return figures


def device_name(device: torch.device) -> str:
    """The name of a GPU as its driver gives it; cpu for the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
