"""Training on the device against the processor: a step of every embedded task, a killed run, and the GPU's report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file

from recipes import protocol
from recipes.distributed import devices
from recipes.runs import build
from recipes.settings import choices, schema
from recipes.training import param_groups

ROOT = Path(__file__).resolve().parents[2]
TASKS = [task for task in choices.names("task") if "embedded" in choices.scales_of(task)]
QUICK = ["vit_s16", "gpt2_small"]  # on the processor: enough to see that the comparison works


def composed(task: str, *overrides: str) -> DictConfig:
    return schema.composed([f"task={task}", "optim=adamw", "dry_run=true", "precision=fp32", "tf32=false", *overrides])


def one_step(cfg: DictConfig, device: str, compiled: bool = False) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a made-up batch without dropout, and the weights after a step with it."""
    from scripts.benchmark.device import _made_up

    devices.set_precision(cfg, torch.device(device))
    torch.manual_seed(0)
    recipe = protocol.make(cfg)
    model = recipe.model().eval()
    batch = {name: _made_up(name, value, cfg) for name, value in recipe.blank_batch(8).items()}
    model.to(device)
    optimizer = build.optimizer_factory(cfg.optim)(
        param_groups.parameter_groups(model, cfg.decay, cfg.optim.weight_decay)
    )
    trained = torch.compile(model) if compiled else model
    torch.manual_seed(1)  # diffusion draws noise; its time steps come from the device's own generator
    loss = recipe.loss(trained, {name: value.to(device) for name, value in batch.items()})["loss"]
    loss.backward()
    optimizer.step()
    return loss.item(), {name: value.detach().cpu() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("device", "task", "compiled"),
    [("cpu", task, False) for task in QUICK]
    + [pytest.param("cuda", task, on, marks=pytest.mark.gpu) for task in TASKS for on in (False, True)],
)
def test_a_step_of_an_embedded_task_is_the_processors(device: str, task: str, compiled: bool) -> None:
    cfg = composed(task)
    if compiled and "compile" not in cfg:
        pytest.skip("there is no setting compile=true")
    if cfg.task.recipe.startswith("diffusion"):
        pytest.skip("its noise is drawn on the device, whose generator is another; the report trains one")
    loss, weights = one_step(cfg, device, compiled)
    expected, expected_weights = one_step(cfg, "cpu")
    assert loss == pytest.approx(expected, rel=1e-4)
    differences = [
        (weights[name] - value).abs().mean().item()
        for name, value in expected_weights.items()
        if value.is_floating_point()
    ]
    # AdamW's first step is lr times a sign: where rounding turns it, a weight is two steps off; few may be.
    assert sum(differences) / len(differences) < 0.02 * cfg.optim.lr


def command(tmp_path: Path) -> list[str]:
    base = [sys.executable, str(ROOT / "run.py"), "task=vit_s16", "optim=lion", "steps=120", "eval_every=60"]
    return [*base, "checkpoint_every=10", "log_every=10", "tracker=none", f"output_dir={tmp_path}"]


@pytest.mark.gpu  # on the processor: tests/recipes/test_resume.py, bit for bit
def test_a_killed_run_goes_on_to_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole = subprocess.run(command(tmp_path / "whole"), env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.Popen(command(tmp_path / "killed"), env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "killed").rglob("*.safetensors")) and killed.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = subprocess.run(command(tmp_path / "killed"), env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    (summary,) = (json.loads(file.read_text()) for file in (tmp_path / "killed").rglob("summary.json"))
    assert summary["status"] == "completed"
    first, second = (load_file(max((tmp_path / name).rglob("*.safetensors"))) for name in ("whole", "killed"))
    for name, value in first.items():  # some kernels of a GPU add in an order of their own
        assert torch.allclose(value, second[name], rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
def test_the_report_of_this_gpu_is_written() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/maintenance/gpu_report.py")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((ROOT / "reports/published/gpu/report.json").read_text())
    assert report["device"] == torch.cuda.get_device_name()
    for rows in report["optimizer_steps"].values():
        ours = next(row for row in rows if row["optimizer"] == "lion")
        assert 0.5 < ours["of_stream"] < 1.2  # of the copy's bandwidth
        assert ours["ratio"] < 1  # of fused AdamW's time, for less traffic
    assert all(
        0.02 < run["share_of_peak"] < 1 for runs in report["training"].values() for run in runs if "peak_of" in run
    )
    assert all(entry["kept"] > 0.9 for entry in report["loop"])
