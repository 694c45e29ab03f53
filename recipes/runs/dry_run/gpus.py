"""Hours of a run on one GPU of several kinds, and the micro-batch that fits it: estimates from FLOPs and bytes.

Hours are FLOPs over a share of the device's peak. The shares are round numbers between what public runs on one kind of
device come to (docs/dry_run.md has them); loading data, evaluation and sampling are not counted.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from tabulate import tabulate

from recipes import protocol
from recipes.runs.dry_run.memory_estimate import Activations, Flops, count_flops

GIB = 2**30
# Of the peak: matrix products by compiled or fused kernels, and convolutions.
MATRIX_SHARE, CONVOLUTION_SHARE = 0.40, 0.15


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        name: as it is sold.
        memory: GiB that the driver reports.
        bf16: peak TFLOP/s of dense bfloat16 matrix products that accumulate in float32.
        tf32: peak TFLOP/s of dense matrix products in TensorFloat-32, which float32 takes here (tf32=true).
    """

    name: str
    memory: int
    bf16: float
    tf32: float


GPUS = (
    Gpu("RTX 3090", 24, 71.2, 35.6),  # NVIDIA, GA102 architecture whitepaper, 2020, table 2
    Gpu("RTX 4090", 24, 165.2, 82.6),  # NVIDIA, Ada architecture whitepaper, 2022, appendix A
    Gpu("A100 40GB", 40, 312.0, 156.0),  # NVIDIA, A100 data sheet, 2021
    Gpu("A100 80GB", 80, 312.0, 156.0),
    Gpu("H100 SXM", 80, 989.4, 494.7),  # NVIDIA, H100 architecture whitepaper, 2022, table 1
    Gpu("H200", 140, 989.4, 494.7),  # NVIDIA, H200 data sheet, 2024
)
NOTE = f"""\
micro-batch   the largest part of the batch that fits x accumulate= (none: one example does not fit)
hours         FLOPs over {MATRIX_SHARE:.0%} of the peak in matrix products and {CONVOLUTION_SHARE:.0%} in convolutions:
              an estimate; a run takes longer with compile=false, with slow data, with tf32=false, and where
              its steps are so short that launching their kernels takes longer than computing them
checkpointed  the same with activation_checkpointing=true, which computes each block's forward pass twice"""


@dataclass(frozen=True)
class Run:
    """What there is to compute.

    Attributes:
        flops: of one example.
        batch: examples a step.
        steps: of the run.
        dtype: of autocast, or None for float32.
    """

    flops: Flops
    batch: int
    steps: int
    dtype: torch.dtype | None


def called(name: str) -> Gpu | None:
    """The GPU of the table that a driver's name, such as "NVIDIA H100 80GB HBM3", is of; None where none is."""
    if "PCIe" in name and "H100" in name:
        return None  # it is slower than the one of the table
    kinds = {gpu: gpu.name.removeprefix("RTX ").split()[0] for gpu in GPUS}
    return next((gpu for gpu, kind in kinds.items() if re.search(rf"\b{kind}\b", name)), None)


def hours(run: Run, gpu: Gpu, recomputed: bool = False) -> float:
    """About how long a run takes on a GPU; `recomputed`: with the forward pass computed twice."""
    flops = run.flops
    both = flops.both + (flops.forward if recomputed else 0)
    convolutions = flops.convolutions * both / max(flops.both, 1)
    peak = 1e12 * (gpu.tf32 if run.dtype is None else gpu.bf16)
    seconds = (both - convolutions) / (MATRIX_SHARE * peak) + convolutions / (CONVOLUTION_SHARE * peak)
    return seconds * run.batch * run.steps / 3600


def of_config(cfg: DictConfig) -> Run:
    """The FLOPs of a run's training, without data or memory."""
    recipe = protocol.make(cfg)
    with torch.device("meta"):
        model = recipe.model().train()
    flops = count_flops(model, lambda model, batch: recipe.loss(model, batch)["loss"], recipe.blank_batch)
    return Run(flops, cfg.batch_size, cfg.steps, torch.bfloat16 if cfg.precision == "bf16" else None)


def accumulation(fixed: float, kept: Activations, batch: int, memory: float) -> int | None:
    """The fewest micro-batches of one size that fit beside `fixed` bytes, or None: one example is too much."""
    parts = (n for n in range(1, batch + 1) if batch % n == 0)
    return next((n for n in parts if fixed + kept.constant + kept.peak(batch // n) <= memory), None)


def table(
    run: Run, fixed: float, kept: tuple[Activations, Activations | None], allowance: float, optimizer: str
) -> str:
    """A line for each GPU.

    Args:
        run: what there is to compute.
        fixed: bytes of parameters, gradients, optimizer state and moving average.
        kept: activations as they are, and with activation checkpointing, where the model has blocks for it.
        allowance: share of the memory that is left free.
        optimizer: whose state `fixed` has.
    """
    rows: list[list[Any]] = []
    for gpu in GPUS:
        rows.append([gpu.name, f"{gpu.memory} GiB"])
        for recomputed, activations in enumerate(kept):
            if activations is None:
                rows[-1] += ["no blocks", "-"]
                continue
            parts = accumulation(fixed, activations, run.batch, gpu.memory * GIB * (1 - allowance))
            time = hours(run, gpu, bool(recomputed))
            shown = f"{time:,.0f}" if time >= 10 else f"{time:.2g}"
            rows[-1] += [parts and f"{run.batch // parts:,} x {parts:,}", parts and shown]
    headers = [f"one GPU, {optimizer}", "memory", "micro-batch", "hours", "checkpointed", "hours"]
    return tabulate(rows, headers, missingval="none", colalign=["left"] + ["right"] * 5, disable_numparse=True)
