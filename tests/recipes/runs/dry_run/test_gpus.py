"""Hours against published runs, and what fits against arithmetic by hand."""

import dataclasses
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose

from recipes.runs.dry_run import gpus
from recipes.runs.dry_run.memory_estimate import Activations, Flops
from recipes.settings import schema

ROOT = Path(__file__).resolve().parents[4]
TASKS = sorted(path.stem for path in (ROOT / "conf/setting/gpu").glob("*.yaml"))
BY_NAME = {gpu.name: gpu for gpu in gpus.GPUS}
# Two papers trained on the four chips of a TPU v3-8: 123 TFLOP/s each (cloud.google.com/tpu/docs/v3). It has no TF32.
BY_NAME["TPU v3-8"] = gpus.Gpu("TPU v3-8", 4 * 32, bf16=4 * 123.0, tf32=0.0)
# A task of scale=gpu, the steps of the published run, its device and its device-hours; the batch is the task's.
PUBLISHED = {
    "llm.c, scripts/run_gpt2_124M.sh: steps of 0.3 s on 8": ("gpt2_124m", 18865, "A100 80GB", 12.6),
    "nanoGPT, README.md: 600,000 steps of 491,520 tokens, 4 days of 8": ("gpt2_124m", 562500, "A100 40GB", 768.0),
    "modded-nanogpt, records/101324_llmc: steps of 139 ms on 8": ("gpt2_124m", 19560, "H100 SXM", 6.04),
    "modded-nanogpt, track 3, 263ea3c4 (Muon): 503 s on 8": ("gpt2_speed_run", 3250, "H100 SXM", 1.12),
    "nanoT5, README.md: bfloat16, compiled": ("t5_pretrain", 65536, "A100 80GB", 10.2),
    "ffcv-imagenet, README.md: 16 epochs, 14.9 minutes of 8": ("resnet50", 20018, "A100 40GB", 2.0),
    "ffcv-imagenet, README.md: 88 epochs, 77.2 minutes of 8": ("resnet50", 110099, "A100 40GB", 10.3),
    "big_vision, configs/vit_s16_i1k.py: 6 to 7 hours": ("vit_s16", 112603, "TPU v3-8", 6.5),
    "conditional-flow-matching, issue 105": ("unet_64", 400000, "RTX 4090", 19.0),
    "DDPM, arXiv:2006.11239, appendix B: 21 steps a second": ("unet_64", 800000, "TPU v3-8", 10.6),
}


@cache
def run_of(task: str) -> gpus.Run:
    with schema.composing():
        return gpus.of_config(compose("config", overrides=["scale=gpu", f"task={task}"]))


def a100_hours(task: str) -> float:
    return gpus.hours(run_of(task), BY_NAME["A100 80GB"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_predicted_hours_are_within_a_factor_of_two_of_a_published_run(name: str) -> None:
    task, steps, device, measured = PUBLISHED[name]
    run = dataclasses.replace(run_of(task), steps=steps)
    assert measured / 2 < gpus.hours(run, BY_NAME[device]) < 2 * measured


@pytest.mark.parametrize("task", TASKS)
def test_a_setting_says_the_hours_that_the_dry_run_predicts(task: str) -> None:
    text = (ROOT / f"conf/setting/gpu/{task}.yaml").read_text(encoding="utf-8")
    stated = re.search(r"^# Hours: (under )?([\d.]+) of an A100 by the dry run", text, re.MULTILINE)
    assert stated, text
    if stated[1]:
        assert a100_hours(task) < float(stated[2])
    else:
        assert a100_hours(task) == pytest.approx(float(stated[2]), rel=0.07)  # two digits


def test_the_guide_has_the_hours_of_every_setting() -> None:
    """Whole hours in the table of docs/running.md, in the order of its tasks."""
    rows = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \|.*\| ([^|]+) \|$", (ROOT / "docs/running.md").read_text(), re.MULTILINE
    )
    stated = {}
    for tasks, hours in rows:
        names, figures = re.findall(r"\w+", tasks), hours.split(", ")
        stated |= dict(zip(names, figures * (len(names) // len(figures)), strict=True))
    assert sorted(stated) == TASKS
    for task, hours in stated.items():
        expected = a100_hours(task)
        assert hours == ("under 1" if expected < 1 else f"{expected:.0f}"), task


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
