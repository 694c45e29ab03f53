"""The loop against loops written without it."""

import itertools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from recipes import protocol
from recipes.data.images import mnist5k
from recipes.runs import experiment, summary
from recipes.runs.record import folder_of, read_metrics, read_summary
from recipes.training import sampler
from recipes.training.timers import PhaseTimer
from tests.processes import command, end, start
from tests.recipes.conftest import ROOT, TINY, TINY_BERT, composed


def losses(folder: Path) -> list[float]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [line["value"] for line in lines if (line["split"], line["name"]) == ("train", "loss")]


def weights(folder: Path, name: str = "model") -> dict[str, torch.Tensor]:
    (newest,) = (folder / "checkpoint").glob("step-*")
    return load_file(newest / f"{name}.safetensors")


def plain(cfg, steps: int = 20, batch: int = 16, ema: float | None = None):
    """The same run in plain torch: nothing of the suite but the model and the documented order of examples."""
    arrays = mnist5k.load()["train"]
    images = torch.from_numpy(arrays.images.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
    order = np.random.default_rng([0, 0]).permutation(len(arrays))  # 320 examples: within the first epoch
    sampler.seed_all(0)
    model = protocol.make(cfg).model()
    exempt = {"pos_embed", "cls_token"}
    matrices = [p for n, p in model.named_parameters() if p.ndim >= 2 and n not in exempt]
    rest = [p for n, p in model.named_parameters() if p.ndim < 2 or n in exempt]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}])
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    result, norms = [], []
    for step in range(steps):
        lr = 1e-3 * ((step + 1) / 4 if step < 4 else 0.5 * (1 + math.cos(math.pi * (step - 4) / (steps - 4))))
        for group in optimizer.param_groups:
            group.update(lr=lr, betas=(0.9, 0.999), eps=1e-6)
        chosen = order[step * batch : (step + 1) * batch]
        loss = F.cross_entropy(model(images[chosen]), torch.from_numpy(arrays.labels[chosen]))
        loss.backward()
        if cfg.clip_norm is not None:
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip_norm)))
        optimizer.step()
        optimizer.zero_grad()
        result.append(loss.item())
        if ema is not None:
            for name, p in model.named_parameters():
                # torch's AveragedModel takes the first weights as they are
                average[name] = p.detach().clone() if step == 0 else ema * average[name] + (1 - ema) * p.detach()
    return model, result, average, norms


ADAMW = ["optim=adamw", "optim.lr=1e-3", "optim.weight_decay=0.1", "log_every=1", "augment.shift=0"]


def test_losses_and_weights_are_those_of_a_plain_loop(tiny) -> None:
    cfg = tiny(*ADAMW, "clip_norm=0.5", "ema_decay=0.8")
    experiment.run(cfg)
    model, expected, average, norms = plain(cfg, ema=0.8)
    assert losses(folder_of(cfg)) == pytest.approx(expected, rel=1e-5)
    trained = weights(folder_of(cfg))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-5)
    averaged = weights(folder_of(cfg), "average")
    for name, value in average.items():
        torch.testing.assert_close(averaged[f"module.{name}"], value, rtol=1e-4, atol=1e-5)
    lines = read_metrics(folder_of(cfg) / "metrics.jsonl")
    assert [li["value"] for li in lines if li["name"] == "grad_norm"] == pytest.approx(norms, rel=1e-3)


def test_validation_and_test_figures_are_those_of_the_final_weights(tiny) -> None:
    cfg = tiny(*ADAMW)
    experiment.run(cfg)
    model = protocol.make(cfg).model()
    model.load_state_dict(weights(folder_of(cfg)))
    model.eval()
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    for key, split in (("final", "val"), ("test", "test")):
        arrays = mnist5k.load()[split]
        images = torch.from_numpy(arrays.images.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            right = (model(images).argmax(1).numpy() == arrays.labels).sum()
        assert summary[key] == right / len(arrays)


# Images, and texts in which every part of a batch has another number of targets.
@pytest.mark.parametrize("task", [TINY, TINY_BERT], ids=["vit", "bert"])
def test_accumulated_micro_batches_make_the_same_step(tmp_path: Path, task: list[str]) -> None:
    one, four = (composed(*task, *ADAMW, f"accumulate={parts}", f"output_dir={tmp_path}") for parts in (1, 4))
    experiment.run(one)
    experiment.run(four)
    assert losses(folder_of(four)) == pytest.approx(losses(folder_of(one)), rel=1e-5)
    trained, expected = weights(folder_of(four)), weights(folder_of(one))
    for name, value in expected.items():
        torch.testing.assert_close(trained[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("launcher", "task"),
    [("accelerate", TINY), ("replicas", TINY_BERT), ("shards", TINY)],  # for shards and texts see test_text_to_text.py
)
def test_two_processes_train_as_one(tmp_path: Path, launcher: str, task: list[str]) -> None:
    cfg = composed(*task, *ADAMW, f"output_dir={tmp_path / 'one'}")
    experiment.run(cfg)
    arguments = [*task, *ADAMW, "accumulate=2", f"output_dir={tmp_path / 'two'}"]
    if launcher == "accelerate":  # as a user types it
        accelerate = Path(sys.executable).parent / "accelerate"
        line = [str(accelerate), "launch", "--multi_gpu", "--num_processes", "2", "run.py", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        run = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stdout + run.stderr
    else:
        said = tmp_path / "said"
        arguments += ["shard=true"] if launcher == "shards" else []
        assert end(start(command, arguments, said=said), said) == [0, 0]
    (folder,) = (tmp_path / "two").glob("*/*/*")
    assert losses(folder) == pytest.approx(losses(folder_of(cfg)), rel=1e-5)
    summary, expected = read_summary(folder), read_summary(folder_of(cfg))
    assert summary is not None
    assert expected is not None
    assert summary["processes"] == 2
    assert summary["optimizer_state_bytes"] == expected["optimizer_state_bytes"]
    for figure in ("final", "test"):
        assert summary[figure] == pytest.approx(expected[figure], rel=1e-5)


def test_a_diverged_run_is_a_result_with_its_step_and_curve(tiny, capsys) -> None:
    cfg = tiny("optim=sgd", "optim.lr=1e12", "optim.weight_decay=0", "log_every=3")
    assert experiment.run(cfg) == "diverged"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    step = summary["diverged_step"]
    assert summary["status"] == "diverged"
    assert 2 <= step <= 20
    assert summary["test"] is None
    assert "loss is" in summary["cause"]
    curve = losses(folder_of(cfg))
    assert curve
    assert all(math.isfinite(value) for value in curve)
    # The same run, looked at after every step, names the same one.
    each = tiny(
        "optim=sgd", "optim.lr=1e12", "optim.weight_decay=0", "log_every=1", "output_dir=" + str(cfg.output_dir) + "1"
    )
    experiment.run(each)
    other = read_summary(folder_of(each))
    assert other is not None
    assert other["diverged_step"] == step
    assert len(losses(folder_of(each))) == step - 1
    assert experiment.run(cfg) == "skipped"


@pytest.mark.parametrize("log_every", [1, 4, 20])
@pytest.mark.parametrize("step", [1, 7, 10])
def test_the_step_whose_loss_is_not_finite_is_named(
    tiny, monkeypatch: pytest.MonkeyPatch, step: int, log_every: int
) -> None:
    from recipes.classification import Recipe

    loss, calls = Recipe.loss, []

    def poisoned(self, model, batch):
        calls.append(1)
        value = loss(self, model, batch)
        return {"loss": value["loss"] * (math.nan if len(calls) == step else 1)}

    monkeypatch.setattr(Recipe, "loss", poisoned)
    cfg = tiny(f"log_every={log_every}")
    assert experiment.run(cfg) == "diverged"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert (summary["diverged_step"], summary["cause"]) == (step, "training loss is nan")
    assert all(math.isfinite(value) for value in losses(folder_of(cfg)))
    assert bool(losses(folder_of(cfg))) == (step > 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("optim", ["lion", "signum", "adamw", "sgd", "adafactor"])
def test_a_gradient_that_is_not_finite_once_ends_every_optimizer_alike(
    tiny, monkeypatch: pytest.MonkeyPatch, optim: str, bad: float
) -> None:
    """The loss stays finite: an update by sign hides the gradient, though the momentum is spoilt."""
    from recipes.classification import Recipe

    make, calls = Recipe.model, []

    def poisoned(self):
        model = make(self)

        def spoil(gradient):
            calls.append(1)
            return torch.where(torch.arange(gradient.numel()) == 3, bad, gradient) if len(calls) == 7 else None

        model.head.bias.register_hook(spoil)
        return model

    monkeypatch.setattr(Recipe, "model", poisoned)
    cfg = tiny(f"optim={optim}", "log_every=5")
    assert experiment.run(cfg) == "diverged"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert (summary["diverged_step"], summary["cause"]) == (7, f"gradient norm is {bad}")


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        (["optim=adamw"], "loop"),
        (["optim=adamw", "+optim.foreach=true"], "foreach"),
        (["optim=adamw", "+optim.fused=true"], "fused"),
    ],
)
def test_the_record_says_which_kind_of_step_ran(tiny, overrides: list[str], kind: str) -> None:
    cfg = tiny(*overrides)
    assert experiment.run(cfg) == "completed"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert summary["optimizer_step"] == kind


def test_weights_that_are_not_finite_after_the_last_step_are_no_result(tiny) -> None:
    cfg = tiny("optim=sgd", "optim.lr=1e30", "steps=1")
    assert experiment.run(cfg) == "diverged"
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert (summary["diverged_step"], summary["cause"]) == (1, "validation loss is nan")
    assert summary["final"] is None


def test_bfloat16_rounds_and_trains(tiny) -> None:
    full, half = tiny("augment.shift=0"), tiny("augment.shift=0", "precision=bf16")
    for cfg in (full, half):
        assert experiment.run(cfg) == "completed"
    one, other = losses(folder_of(full)), losses(folder_of(half))
    assert one != other
    assert other == pytest.approx(one, rel=0.02)
    assert all(value.dtype == torch.float32 for value in weights(folder_of(half)).values())


def test_a_run_goes_on_from_anothers_average(tiny) -> None:
    first = tiny("ema_decay=0.9")
    experiment.run(first)
    second = tiny(f"init_from={folder_of(first)}", "optim.lr=0", "optim.weight_decay=0", "steps=1")
    assert experiment.run(second) == "completed"
    averaged = weights(folder_of(first), "average")
    for name, value in weights(folder_of(second)).items():
        assert torch.equal(value, averaged[f"module.{name}"])


def test_clocks_add_up_to_the_wall_time(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stopwatch from the run's first line to its outcome: what delays one delays the other."""
    readings = []

    class Stopwatched(PhaseTimer):
        def __init__(self, part: str) -> None:
            readings.append(time.monotonic())
            super().__init__(part)

    outcome = summary.outcome

    def stopwatched(*args, **options):
        readings.append(time.monotonic())
        return outcome(*args, **options)

    monkeypatch.setattr(experiment, "PhaseTimer", Stopwatched)
    monkeypatch.setattr(summary, "outcome", stopwatched)
    cfg = tiny("steps=60")
    experiment.run(cfg)
    written = read_summary(folder_of(cfg))
    assert written is not None
    parts = written["seconds"]
    assert set(parts) == {
        "startup", "data", "forward", "backward", "gradients", "optimizer", "evaluation", "checkpoint", "logging",
    }  # fmt: skip
    assert min(parts.values()) > 0
    assert sum(parts.values()) == pytest.approx(readings[-1] - readings[0], abs=0.05)


def test_reported_speed_is_a_stopwatchs(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow optimizer of known duration: the rate cannot be far from what its naps allow."""
    nap = 0.05
    step = torch.optim.AdamW.step

    def slow(self, closure=None):
        time.sleep(nap)
        return step(self, closure)

    cfg = tiny("optim=adamw", "steps=30", "eval_every=30", "checkpoint_every=30")
    monkeypatch.setattr(torch.optim.AdamW, "step", slow)
    experiment.run(cfg)
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    parts = summary["seconds"]
    training = sum(parts[part] for part in ("data", "forward", "backward", "optimizer"))
    assert summary["steps_per_second"] == pytest.approx(30 / training, rel=0.1)
    assert 1000 * nap <= summary["optimizer_step_ms"] < 1000 * nap + 20
    assert parts["optimizer"] > 30 * nap


def test_the_summary_has_what_the_record_promises(tiny) -> None:
    cfg = tiny()
    experiment.run(cfg)
    summary = json.loads((folder_of(cfg) / "summary.json").read_text())
    promised = (
        "status task optim scale seed steps metric goal final best test lr weight_decay steps_per_second "
        "optimizer_step_ms optimizer_state_bytes num_parameters data_fingerprint versions git_commit"
    )
    assert not set(promised.split()) - set(summary)
    assert summary["optimizer_state_bytes"] == 2 * summary["num_parameters"]  # bfloat16 momentum
    assert summary["status"] == "completed"
    names = {(line["split"], line["name"]) for line in read_metrics(folder_of(cfg) / "metrics.jsonl")}
    assert names >= {("train", "loss"), ("val", "accuracy"), ("test", "accuracy"), ("optim", "lr")}
    assert ("time", "steps_per_second") in names


def test_a_batch_that_parts_do_not_divide_is_refused(tiny) -> None:
    from recipes.errors import ConfigError

    with pytest.raises(ConfigError, match=r"batch_size=16 is not divisible by 1 processes x accumulate=3.*15, 18"):
        experiment.run(tiny("accumulate=3"))


def test_precision_may_change_between_the_runs_of_a_process(tiny) -> None:
    for precision in ("fp32", "bf16", "fp32"):
        cfg = tiny(f"precision={precision}", "steps=5", f"seed={len(precision)}")
        experiment.run(cfg)
    summary = read_summary(folder_of(tiny("precision=bf16", "steps=5", "seed=4")))
    assert summary is not None
    assert summary["status"] == "completed"


def test_an_optimizer_with_two_sets_of_weights_is_told_which_to_use(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.optim.AdamW, "eval", lambda _: calls.append("eval"), raising=False)
    monkeypatch.setattr(torch.optim.AdamW, "train", lambda _: calls.append("train"), raising=False)
    experiment.run(tiny("optim=adamw"))
    # The trial before the run, and two validations, the second of which the test follows: the weights to evaluate stay
    # until the next step.
    assert [call for call, _ in itertools.groupby(calls)] == ["train", "eval"] * 3
