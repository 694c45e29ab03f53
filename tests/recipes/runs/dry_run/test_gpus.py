"""Hours against published runs, and what fits against arithmetic by hand."""

import pytest
import torch
from hydra import compose

from recipes.runs.dry_run import gpus
from recipes.runs.dry_run.memory_estimate import Activations, Flops
from recipes.settings import schema

BY_NAME = {gpu.name: gpu for gpu in gpus.GPUS}
# Settings of scale=gpu, what of them differs in the published run, its GPU and its GPU-hours.
PUBLISHED = {
    "llm.c, GPT-2 124M, 18,865 steps of 0.3 s on 8": (["task=gpt2_124m"], "A100 80GB", 12.6),
    "modded-nanogpt, llm.c's run, 45 minutes of 8": (["task=gpt2_124m", "steps=19560"], "H100 SXM", 6.0),
    "modded-nanogpt, track 3, AdamW, 1.07 s a step": (["task=gpt2_124m", "steps=5625"], "H200", 1.67),
    "nanoT5, bfloat16 and compiled": (["task=t5_pretrain"], "A100 80GB", 10.2),
    "ffcv-imagenet, 16 epochs, 14.9 minutes of 8": (["task=resnet50"], "A100 40GB", 2.0),
    "conditional-flow-matching 105, 400,000 steps": (["task=unet_64"], "RTX 4090", 19.0),
}


def run_of(*overrides: str) -> gpus.Run:
    with schema.composing():
        return gpus.of_config(compose("config", overrides=["scale=gpu", *overrides]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_predicted_hours_are_within_a_factor_of_two_of_a_published_run(name: str) -> None:
    overrides, gpu, measured = PUBLISHED[name]
    assert measured / 2 < gpus.hours(run_of(*overrides), BY_NAME[gpu]) < 2 * measured


def test_hours_by_hand() -> None:
    run = gpus.Run(Flops(forward=10**9, both=3 * 10**9, convolutions=10**9), 100, 3600, torch.bfloat16)
    gpu = gpus.Gpu("x", 24, bf16=100.0, tf32=10.0)
    # Per example 2e9 at 40e12 and 1e9 at 15e12 a second; recomputed 4/3 of each.
    expected = 100 * (2e9 / 40e12 + 1e9 / 15e12)
    assert gpus.hours(run, gpu) == pytest.approx(expected)
    assert gpus.hours(run, gpu, recomputed=True) == pytest.approx(expected * 4 / 3)
    in_fp32 = gpus.Run(run.flops, 100, 3600, None)
    assert gpus.hours(in_fp32, gpu) == pytest.approx(10 * expected)


def test_accumulation_divides_the_batch_and_fits() -> None:
    kept = Activations(constant=50, per_example=10, per_pair=0, largest_per_example=2)
    assert gpus.accumulation(100, kept, 12, 100 + 50 + 14 * 12) == 1
    assert gpus.accumulation(100, kept, 12, 100 + 50 + 14 * 12 - 1) == 2
    assert gpus.accumulation(100, kept, 12, 100 + 50 + 14 * 5) == 3  # five would fit, and do not divide twelve
    assert gpus.accumulation(100, kept, 12, 100 + 50 + 14) == 12
    assert gpus.accumulation(100, kept, 12, 100 + 50 + 13) is None


def test_the_table_says_what_does_not_fit() -> None:
    run = gpus.Run(Flops(10**12, 3 * 10**12, 0), 8, 10**6, torch.bfloat16)
    plain, checkpointed = Activations(0, 30 * gpus.GIB, 0, 0), Activations(0, 4 * gpus.GIB, 0, 0)
    lines = gpus.table(run, 4 * gpus.GIB, (plain, checkpointed), 0.05, "lion").splitlines()
    cells = {line[:12].strip(): line.split() for line in lines[2:]}
    assert cells["RTX 4090"][4:] == ["none", "none", "4", "x", "2", "135"]
    assert cells["H200"][3:9] == ["4", "x", "2", "17", "8", "x"]


def test_a_model_without_blocks_has_nothing_to_compute_again() -> None:
    run = gpus.Run(Flops(10**12, 3 * 10**12, 0), 8, 10**6, torch.bfloat16)
    lines = gpus.table(run, gpus.GIB, (Activations(0, 1, 0, 0), None), 0.05, "lion").splitlines()
    assert all(line.split()[-3:] == ["no", "blocks", "-"] for line in lines[2:])


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100 40GB"),  # the same peak
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA RTX A1000", None),
        ("cpu", None),
    ],
)
def test_a_drivers_name_finds_its_line(name: str, called: str | None) -> None:
    gpu = gpus.called(name)
    assert (gpu and gpu.name) == called
