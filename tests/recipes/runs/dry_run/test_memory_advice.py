import json
import re
from pathlib import Path

import pytest
import torch
from hydra import compose

from recipes.errors import DeviceMemoryError
from recipes.runs import cli, experiment, record
from recipes.runs.dry_run import cost, gpus, memory_advice
from recipes.settings import schema

GIB = gpus.GIB


def composed(*overrides: str):
    with schema.composing():
        return compose("config", overrides=list(overrides))


MIB = 2**20
VIT = ["task=vit_b16", "batch_size=4096", "optim=lion"]


def test_the_setting_that_it_names_fits_and_the_one_before_it_does_not() -> None:
    cfg = composed(*VIT)
    said = memory_advice.advice(cfg, 256 * MIB)
    assert "\n" not in said
    assert said.startswith("the device's memory of 0.25 GiB is too small: 4,096 examples at a time take ")
    accumulate = int(re.search(r"accumulate=(\d+)", said)[1])
    f = cost.of_config(cfg, {"lion": cfg.optim}).footprint
    fixed = f.fixed + f.optimizer_state_bytes["lion"] + f.activations.constant
    divisors = [n for n in range(1, 4097) if 4096 % n == 0]
    before = divisors[divisors.index(accumulate) - 1]
    assert (
        fixed + f.activations.peak(4096 // accumulate) <= 0.95 * 256 * MIB < fixed + f.activations.peak(4096 // before)
    )


def test_activation_checkpointing_is_named_where_it_is_off() -> None:
    said = memory_advice.advice(composed(*VIT), 256 * MIB)
    parts = re.search(r"set accumulate=(\d+), or activation_checkpointing=true(?: accumulate=(\d+))?$", said)
    assert int(parts[2] or 1) < int(parts[1])
    on = memory_advice.advice(composed(*VIT, "activation_checkpointing=true"), 64 * MIB)
    assert re.search(r"set accumulate=\d+$", on)
    assert re.search(r"set accumulate=\d+$", memory_advice.advice(composed("task=resnet50"), 256 * MIB))


def test_pairs_are_embedded_in_parts_and_what_fits_points_elsewhere() -> None:
    said = memory_advice.advice(composed("task=lit_b16_b"), 8 * MIB)
    assert re.search(r"set model\.args\.micro_batch=\d+", said)
    said = memory_advice.advice(composed("task=vit_b16"), 24 * GIB)
    assert "something else uses the device" in said


def test_a_model_that_no_part_of_the_batch_fits_beside() -> None:
    said = memory_advice.advice(composed("task=vit_b16"), 1 * MIB)
    assert said.endswith(f"set {memory_advice.NOTHING_FITS}")


def test_a_run_that_meets_it_keeps_its_record_and_says_a_line(tmp_path: Path, monkeypatch, capsys) -> None:
    from recipes.training.loop import Trainer

    def train(self):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(Trainer, "train", train)
    monkeypatch.setattr(memory_advice, "after", lambda error, cfg: memory_advice.advice(cfg, 2**20))
    cfg = composed("task=vit_b16", "tracker=none", f"output_dir={tmp_path}")
    with pytest.raises(DeviceMemoryError) as error:
        experiment.run(cfg)
    line = cli.user_message(error.value)
    assert line is not None
    assert "\n" not in line
    summary = json.loads((record.folder_of(cfg) / "summary.json").read_text())
    assert (summary["status"], summary["cause"]) == ("failed", str(error.value))


def test_figures_that_cannot_be_had_leave_torchs_own_words(monkeypatch) -> None:
    class Properties:
        total_memory = 24 * GIB

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    said = memory_advice.after(torch.OutOfMemoryError("CUDA out of memory.\nMore"), composed("task=vit_b16").optim)
    assert said == "the device's memory is too small for this run (CUDA out of memory.): raise accumulate="
