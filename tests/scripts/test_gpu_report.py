"""The GPU's report, made on the processor with small sizes."""

import json
from pathlib import Path

import pytest
import torch

from recipes.runs.dry_run import gpus
from recipes.settings import schema
from scripts.benchmark import device as measuring
from scripts.maintenance import gpu_report

CPU = torch.device("cpu")


def test_the_report_is_written_with_every_figure(tmp_path: Path, capsys) -> None:
    assert gpu_report.main(["--device", "cpu", "--small", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["device"] == "cpu"
    assert report["copy"]["bytes_per_second"] > 1e8
    (rows,) = report["optimizer_steps"].values()
    timed = {row["optimizer"]: row for row in rows if "ms" in row}
    assert {"lion", "adamw-fused", "stream"} <= set(timed)
    assert timed["adamw-fused"]["ratio"] == pytest.approx(1)
    assert {run["optimizer"] for run in report["training"]["vit_b16"]} == {"lion", "adamw"}
    assert 0.3 < report["loop"][0]["kept"] < 1.5
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("# One GPU\n\ncpu, torch ")
    assert f"{report['loop'][0]['kept']:.3f}" in page


def test_without_a_gpu_nothing_is_written(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_report.main(["--out", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == "no GPU here: nothing is measured and nothing written\n"
    assert not (tmp_path / "new").exists()
    with pytest.raises(SystemExit):
        gpu_report.main(["--device", "cpu"])  # would take the place of the published one


def test_the_published_report_is_measured_or_says_that_it_is_not() -> None:
    page = (gpu_report.OUT / "README.md").read_text()
    file = gpu_report.OUT / "report.json"
    assert page == (gpu_report.page(json.loads(file.read_text())) if file.exists() else gpu_report.NOT_MEASURED)


def test_the_share_of_the_peak_is_flops_by_arithmetic(monkeypatch) -> None:
    """Of a device whose peak is known, by the FLOPs of the dry run and the steps a second that stand beside it."""
    monkeypatch.setattr(measuring, "device_name", lambda device: "NVIDIA H100 80GB HBM3")
    cfg = schema.composed(["task=vit_b16", "optim=adamw", "dry_run=true"])
    figures = measuring.training_speed(cfg, CPU, batch=4, steps=2, warm=1)
    flops = gpus.of_config(cfg).flops.both * 4 * figures["steps_per_second"]
    assert figures["flops_per_second"] == pytest.approx(flops)
    assert figures["share_of_peak"] == pytest.approx(flops / 494.7e12)


@pytest.mark.parametrize("task", ["gpt2_small", "unet_64", "t5_pretrain", "bert_small"])
def test_every_family_trains_on_made_up_examples(task: str) -> None:
    cfg = schema.composed([f"task={task}", "dry_run=true"])
    assert measuring.training_speed(cfg, CPU, batch=2, steps=1, warm=1)["steps_per_second"] > 0
