"""A run that was killed goes on to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file

from recipes.runs import experiment
from recipes.runs.record import folder_of, read_metrics, read_summary
from recipes.training import checkpoint, sampler
from recipes.training.loop import Trainer
from tests.recipes.conftest import TINY, composed

ROOT = Path(__file__).resolve().parents[2]

# Everything that is random or has state: bfloat16 momentum, Adam's counters, an average, dropout, mixing, workers.
VARIANTS = {
    "lion": ["optim=lion"],
    "adamw-average": ["optim=adamw", "ema_decay=0.9", "clip_norm=1.0"],
    "dropout-mixing": ["optim=lion", "+model.args.proj_drop_rate=0.2", "augment=randaug_mixup", "augment.shift=2"],
    "accumulation-bf16": ["optim=adafactor", "accumulate=2", "precision=bf16"],
}


class KilledError(BaseException):
    """Stands for SIGKILL: nothing in the suite may catch it and clean up after it."""


def run_killed_after_a_checkpoint(cfg: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a run, kill it behind its first checkpoint, and let it go on to its end."""
    save = checkpoint.save

    def die_after(*arguments: Any) -> None:
        save(*arguments)
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save", die_after)
        with pytest.raises(KilledError):
            experiment.run(cfg)
    assert experiment.run(cfg) == "completed"


def final(folder: Path) -> dict[str, torch.Tensor]:
    (newest,) = (folder / "checkpoint").glob("step-*")
    weights = load_file(newest / "model.safetensors")
    if (newest / "average.safetensors").exists():
        weights |= {f"average.{k}": v for k, v in load_file(newest / "average.safetensors").items()}
    return weights


def measured(folder: Path) -> list[tuple[int, str, str, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(li["step"], li["split"], li["name"], li["value"]) for li in lines if li["split"] != "time"]


def assert_same_result(one: Path, other: Path) -> None:
    weights, others = final(one), final(other)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name
    assert measured(one) == measured(other)
    for key in ("final", "best", "test", "status"):
        summary, expected = read_summary(one), read_summary(other)
        assert summary is not None
        assert expected is not None
        assert summary[key] == expected[key]


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_run_cut_after_a_step_goes_on_to_the_same_bits(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, overrides: list[str]
) -> None:
    """Once right behind a checkpoint, once between two."""
    whole = tiny(*overrides, f"output_dir={tmp_path / 'whole'}")
    assert experiment.run(whole) == "completed"
    cut = tiny(*overrides, f"output_dir={tmp_path / 'cut'}")
    seed_all = sampler.seed_all
    for step in (5, 12):

        def die_at(*key: int, last: int = step) -> None:
            if len(key) == 3 and key[1] == last:  # (seed, step, process): the beginning of a step
                raise KilledError
            seed_all(*key)

        with monkeypatch.context() as patched:
            patched.setattr(sampler, "seed_all", die_at)
            with pytest.raises(KilledError):
                experiment.run(cut)
    assert experiment.run(cut) == "completed"
    said = capsys.readouterr().out
    assert "resuming from step 5" in said
    assert "resuming from step 10" in said
    assert_same_result(folder_of(cut), folder_of(whole))


def test_a_run_on_a_device_goes_on_within_a_window(tiny, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Only the first step of a window is timed there, and that of this one went with the killed process."""
    waits: list[int] = []
    monkeypatch.setattr(Trainer, "is_asynchronous", property(lambda _: True))
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: waits.append(1))
    cfg = tiny("log_every=8", "eval_every=16")
    run_killed_after_a_checkpoint(cfg, monkeypatch)
    assert "resuming from step 5" in capsys.readouterr().out
    summary = read_summary(folder_of(cfg))
    assert summary is not None
    assert summary["optimizer_step_ms"] > 0
    assert waits


def test_a_summary_that_cannot_be_read_is_spoken_of(tiny, capsys) -> None:
    cfg = tiny()
    folder_of(cfg).mkdir(parents=True)
    (folder_of(cfg) / "summary.json").write_text('{"status": "compl')
    assert experiment.run(cfg) == "completed"
    assert "summary.json cannot be read: this run goes on from its checkpoint" in capsys.readouterr().out


def arguments(folder: Path) -> list[str]:
    return [*TINY, "optim=lion", "steps=60", "checkpoint_every=10", f"output_dir={folder}"]


def start(folder: Path, *before: str, workers: int = 0) -> subprocess.Popen[str]:
    """A process group of its own, as a shell makes for a command."""
    command = [sys.executable, *(before or ("run.py",)), *arguments(folder), f"data.workers={workers}"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    while not list(folder.glob("*/*/*/checkpoint/step-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return next(folder.glob("*/*/*"))


def test_sigkill_and_again(tmp_path: Path, uninterrupted: Path, capsys) -> None:
    process = start(tmp_path, workers=2)
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGKILL)
    process.wait()  # the loader processes are left behind for some seconds
    (folder,) = tmp_path.glob("*/*/*")
    summary = read_summary(folder)
    assert summary is not None
    assert summary["status"] == "interrupted"
    assert experiment.run(composed(*arguments(tmp_path))) == "completed"
    assert "resuming from step" in capsys.readouterr().out
    assert_same_result(folder, uninterrupted)


# run.py, killed in the middle of writing its second checkpoint: the weights are there, the rest is not.
DIE_WRITING = """
import os, runpy, signal, sys, torch
save, calls = torch.save, []
def die(*arguments):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*arguments)
torch.save = die
sys.argv[0] = sys.argv.pop(1)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_sigkill_while_a_checkpoint_is_written(tmp_path: Path, uninterrupted: Path, capsys) -> None:
    script = tmp_path / "die.py"
    script.write_text(DIE_WRITING)
    process = start(tmp_path, str(script), str(ROOT / "run.py"))
    _, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, err
    (folder,) = tmp_path.glob("*/*/*")
    left = sorted(path.name for path in (folder / "checkpoint").iterdir())
    assert left == [".step-00000020.tmp", "step-00000010"]
    assert experiment.run(composed(*arguments(tmp_path))) == "completed"
    assert "resuming from step 10" in capsys.readouterr().out
    assert_same_result(folder, uninterrupted)


def test_a_run_asked_to_stop_writes_a_checkpoint_and_goes_on(tmp_path: Path, uninterrupted: Path) -> None:
    """Ctrl-C reaches every process of the group, the loaders too."""
    process = start(tmp_path, workers=2)
    wait_for_checkpoint(tmp_path, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "the same command continues from there" in err
    assert "Traceback" not in err
    (folder,) = tmp_path.glob("*/*/*")
    summary = read_summary(folder)
    assert summary is not None
    assert summary["status"] == "interrupted"
    assert experiment.run(composed(*arguments(tmp_path))) == "completed"
    assert_same_result(folder, uninterrupted)


@pytest.mark.parametrize("overrides", [["ema_decay=0.9"], ["eval_every=7"]])
def test_a_run_killed_while_it_is_tested_measures_nothing_twice(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    whole, cut = (tiny(*overrides, f"output_dir={tmp_path / name}") for name in ("whole", "cut"))
    experiment.run(whole)
    evaluate = Trainer.evaluate

    def die_after(self: Trainer, split: str, step: int) -> dict[str, float]:
        values = evaluate(self, split, step)
        if split == "test":
            raise KilledError
        return values

    monkeypatch.setattr(Trainer, "evaluate", die_after)
    with pytest.raises(KilledError):
        experiment.run(cut)
    monkeypatch.undo()
    killed = read_summary(folder_of(cut))
    assert experiment.run(cut) == "completed"
    assert_same_result(folder_of(cut), folder_of(whole))
    summary, expected = read_summary(folder_of(cut)), read_summary(folder_of(whole))
    assert killed is not None
    assert summary is not None
    assert expected is not None
    for figure in ("steps_per_second", "optimizer_step_ms", "optimizer_state_bytes"):
        assert summary[figure] == killed[figure] > 0
    assert summary["optimizer_state_bytes"] == expected["optimizer_state_bytes"]


@pytest.mark.parametrize(("before", "after"), [(20, 3), (4, 20)])
def test_windows_of_another_length_after_a_resume(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    """How often a run is looked at does not decide what it is: it may change when it goes on."""
    whole = tiny("log_every=1", "checkpoint_every=7", f"output_dir={tmp_path / 'whole'}")
    experiment.run(whole)
    cut = [
        tiny(f"log_every={every}", "checkpoint_every=7", f"output_dir={tmp_path / 'cut'}") for every in (before, after)
    ]
    seed_all = sampler.seed_all

    def die_at(*key: int) -> None:
        if len(key) == 3 and key[1] == 8:
            raise KilledError
        seed_all(*key)

    monkeypatch.setattr(sampler, "seed_all", die_at)
    with pytest.raises(KilledError):
        experiment.run(cut[0])
    monkeypatch.undo()
    assert experiment.run(cut[1]) == "completed"
    each = {step: value for step, _, name, value in measured(folder_of(whole)) if name == "loss" and _ == "train"}
    seen, last = 0, 0
    for step, split, name, value in measured(folder_of(cut[1])):
        if (split, name) == ("train", "loss"):
            assert value == pytest.approx(sum(each[n] for n in range(last + 1, step + 1)) / (step - last), rel=1e-5)
            seen, last = seen + 1, step
    assert (seen > 1, last) == (True, 20)
    weights, others = final(folder_of(whole)), final(folder_of(cut[1]))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_a_complete_run_is_not_done_again(tiny, capsys) -> None:
    cfg = tiny()
    assert experiment.run(cfg) == "completed"
    folder = folder_of(cfg)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert experiment.run(cfg) == "skipped"
    assert "is completed already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_torn_checkpoint_costs_only_the_way_from_the_one_before(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    whole, cut = tiny(f"output_dir={tmp_path / 'whole'}"), tiny(f"output_dir={tmp_path / 'cut'}")
    experiment.run(whole)
    monkeypatch.setattr(checkpoint, "trim", lambda _: None)
    experiment.run(cut)
    folder = folder_of(cut)
    newest = max((folder / "checkpoint").glob("step-*")) / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    (folder / "summary.json").write_text(json.dumps({"status": "interrupted"}))
    monkeypatch.undo()
    assert experiment.run(cut) == "completed"
    captured = capsys.readouterr()
    assert "passed over" in captured.err
    assert "resuming from step 15" in captured.out
    checkpoint.trim(folder / "checkpoint")
    assert_same_result(folder, folder_of(whole))


def test_data_that_changed_since_are_refused(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes.data.images.batches import TensorImages
    from recipes.errors import ConfigError

    cfg = tiny()
    monkeypatch.setattr(checkpoint, "trim", lambda _: None)
    experiment.run(cfg)
    (folder_of(cfg) / "summary.json").unlink()
    monkeypatch.setattr(TensorImages, "fingerprint", lambda _: "another")
    with pytest.raises(ConfigError, match="has changed since"):
        experiment.run(cfg)
