"""A sweep in which some runs fail: the others complete, the count says so, and nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import psutil
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from recipes.errors import ConfigError
from recipes.runs import cli, experiment, record, sweep
from recipes.settings import schema, validation

ROOT = Path(__file__).resolve().parents[3]
TINY = [
    "task=vit_b16",
    "tracker=none",
    "steps=4",
    "eval_every=4",
    "log_every=2",
    "batch_size=8",
    "model.args.depth=1",
    "model.args.embed_dim=16",
    "model.args.num_heads=2",
]
DONE = {"status": "completed", "final": 0.5}
SWEEP = ["optim=lion,adamw", "optim.lr=1e-3,3e-3"]


def command(folder: Path, *overrides: str) -> dict[str, Any]:
    """The command of a sweep, whose own temporary files lie in folder/tmp and whose records in folder/out."""
    (folder / "tmp").mkdir(exist_ok=True)
    hidden = {"HYDRA_FULL_ERROR", sweep.VARIABLE}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return {
        "args": [sys.executable, str(ROOT / "run.py"), "-m", *TINY, f"output_dir={folder / 'out'}", *overrides],
        "cwd": folder,
        "env": environment | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")},
        "text": True,
    }


def obstruct(folder: Path) -> None:
    """A file where the records of AdamW go: its runs fail, and nothing but running them tells."""
    (folder / "out" / "vit_b16").mkdir(parents=True)
    (folder / "out" / "vit_b16" / "adamw").touch()


def run(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**command(folder, *overrides), capture_output=True, timeout=240)


def lists(folder: Path) -> list[Path]:
    return list((folder / "tmp").glob("lion-bench-sweep-*"))


def summaries(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in (folder / "out").rglob("summary.json")]
    return {summary["optim"]: summary for summary in found}


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The final weights of each run by its record's place."""
    return {
        path.parent.relative_to(folder / "out").as_posix(): load_file(path)
        for path in (folder / "out").rglob("*.safetensors")
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder in which a sweep has run, one run after the other, and what it printed."""
    folder = tmp_path_factory.mktemp("serial")
    obstruct(folder)
    return folder, run(folder, *SWEEP)


def test_the_runs_beside_a_failed_one_complete(swept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = swept
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "sweep of 4 runs: 2 completed, 2 failed"
    assert {optim: s["status"] for optim, s in summaries(folder).items()} == {"lion": "completed"}
    assert "Traceback" not in done.stderr
    failures = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 2
    assert all(str(folder / "out" / "vit_b16" / "adamw") in line and "cannot write" in line for line in failures)
    assert not lists(folder)


def test_the_same_sweep_again_does_nothing_twice(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = swept
    before = {path: path.read_bytes() for path in (folder / "out").rglob("*.jsonl")}
    assert before
    arguments = command(folder, *SWEEP)["args"]
    monkeypatch.setattr(sys, "argv", arguments[1:])
    monkeypatch.delenv(sweep.VARIABLE, raising=False)
    schema.register()
    with pytest.raises(SystemExit) as end:  # in this process: what is skipped needs no other
        hydra.main(config_path=str(ROOT / "conf"), config_name="config", version_base="1.3")(cli.run)()
    assert end.value.code == 1
    assert capsys.readouterr().out.splitlines()[-1] == "sweep of 4 runs: 2 failed, 2 skipped"
    assert {path: path.read_bytes() for path in (folder / "out").rglob("*.jsonl")} == before


def test_processes_side_by_side_make_the_same_weights(
    swept: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, _ = swept
    obstruct(tmp_path)
    done = run(tmp_path, *SWEEP, "hydra/launcher=parallel")
    assert done.returncode == 1, done
    assert "sweep of 4 runs: 2 completed, 2 failed" in done.stdout.splitlines()
    assert not lists(tmp_path)
    serial, parallel = weights(folder), weights(tmp_path)
    assert len(serial) >= 2
    assert serial.keys() == parallel.keys()
    for place, tensors in serial.items():
        assert tensors.keys() == parallel[place].keys()
        for name, value in tensors.items():
            assert torch.equal(value, parallel[place][name]), f"{place}: {name}"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process of its parent's end")
def test_workers_end_with_the_sweep_that_was_killed(tmp_path: Path) -> None:
    given = command(tmp_path, "seed=0,1", "hydra/launcher=parallel", "steps=1000000", "eval_every=1000000")
    sweeping = subprocess.Popen(**given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(list((tmp_path / "out").rglob("metrics.jsonl"))) == 2)
        workers = [child for child in psutil.Process(sweeping.pid).children() if "Loky" in " ".join(child.cmdline())]
        assert len(workers) == 2
    finally:
        sweeping.kill()
        sweeping.wait()
    wait_for(lambda: not any(worker.is_running() for worker in workers), seconds=10)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_an_interrupted_sweep_leaves_no_list_behind_and_can_go_on(tmp_path: Path) -> None:
    long = ["optim=lion,adamw", "steps=100000", "eval_every=100000", "checkpoint_every=100000"]
    process = subprocess.Popen(**command(tmp_path, *long), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not any(p.stat().st_size for p in tmp_path.rglob("metrics.jsonl")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        assert lists(tmp_path)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == cli.INTERRUPTED, err
    assert "Traceback" not in err
    assert "the same command continues from there" in err
    assert not lists(tmp_path)
    assert {optim: s["status"] for optim, s in summaries(tmp_path).items()} == {"lion": "interrupted"}
    assert list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    three = ["optim=lion,adamw,sgd", "steps=100", "eval_every=100", "checkpoint_every=10"]
    process = subprocess.Popen(**command(tmp_path, *three), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(tmp_path.glob("out/*/adamw/*/checkpoint/step-*")):
            assert process.poll() is None
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert {optim: s["status"] for optim, s in summaries(tmp_path).items()} == {
        "lion": "completed",
        "adamw": "interrupted",
    }
    (first,) = tmp_path.glob("out/*/lion/*/metrics.jsonl")
    before = first.stat().st_mtime_ns
    done = run(tmp_path, *three)
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-1] == "sweep of 3 runs: 2 completed, 1 skipped"
    assert "resuming from step" in done.stdout
    assert first.stat().st_mtime_ns == before
    assert {s["status"] for s in summaries(tmp_path).values()} == {"completed"}


class Listed:
    """A sweep's list in this process: what each run is noted as."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "list.jsonl"
        monkeypatch.setenv(sweep.VARIABLE, str(self.path))

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.mark.parametrize(
    "error", [ConfigError("the data are not there"), OSError(5, "Input/output error"), ZeroDivisionError("division")]
)
def test_a_run_of_a_sweep_that_fails_is_noted_once_and_ends_alone(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    listed = Listed(tmp_path, monkeypatch)

    def failing(*args: object) -> None:
        raise error

    monkeypatch.setattr("recipes.training.loop.Trainer", failing)
    cfg = tiny()
    cli.run(cfg)
    (line,) = listed.read()
    assert line["status"] == "failed"
    assert line["folder"] == str(record.folder_of(cfg))
    assert str(error) in line["cause"]
    err = capsys.readouterr().err
    assert ("Traceback" in err) == (not isinstance(error, ConfigError))


def test_runs_of_another_precision_follow_each_other_in_one_process(tiny: Any) -> None:
    for precision in ("fp32", "bf16", "fp32"):
        cfg = tiny(f"precision={precision}", "steps=2", "eval_every=2", f"seed={len(precision)}")
        assert experiment.run(cfg) in ("completed", "skipped")


def test_each_end_is_noted(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Listed(tmp_path, monkeypatch)
    cfg = tiny()
    for status in ("completed", "diverged", "skipped", "dry run"):
        monkeypatch.setattr("recipes.runs.experiment.run", lambda cfg, status=status: status)
        cli.run(cfg)
    assert [line["status"] for line in listed.read()] == ["completed", "diverged", "skipped", "dry run"]


def test_nothing_is_noted_outside_of_a_sweep(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sweep.VARIABLE, raising=False)
    assert not sweep.active()
    sweep.note("completed", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_count_of_runs_that_all_end_well_leaves_status_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(sweep.VARIABLE, raising=False)
    cfg = OmegaConf.create({"output_dir": str(tmp_path / "out"), "hydra": {"sweep": {"dir": str(tmp_path / "out")}}})
    count = sweep.SweepCallback()
    count.on_multirun_start(cfg)
    path = Path(os.environ[sweep.VARIABLE])
    sweep.note("completed", tmp_path)
    sweep.note("diverged", tmp_path)
    sweep.note("completed", tmp_path)
    count.on_multirun_end(cfg)
    assert capsys.readouterr().out == "sweep of 3 runs: 2 completed, 1 diverged\n"
    assert not path.exists()
    assert not sweep.active()


def test_a_mistake_in_one_value_of_a_sweep_is_said_before_its_first_run(tmp_path: Path) -> None:
    done = run(tmp_path, "optim=lion,adamw", "optim.lr=1e-3,-1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "error: optim.lr=-1 must be a finite number of at least 0\n"
    assert not (tmp_path / "out").exists()


def test_a_run_that_another_process_writes_is_waited_for_at_the_end(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sweeps in one folder: each does the runs that the other has not begun, and neither reports a failure."""
    monkeypatch.delenv(sweep.VARIABLE, raising=False)
    cfg = tiny()
    where = OmegaConf.create({"output_dir": str(tmp_path / "out")})
    where.hydra = {"sweep": {"dir": str(tmp_path / "out")}, "sweeper": {}}
    count = sweep.SweepCallback()
    count.on_multirun_start(where)
    folder = record.folder_of(cfg)
    folder.mkdir(parents=True)
    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys, time\n"
            "from pathlib import Path\n"
            "folder = Path(sys.argv[1])\n"
            "with (folder / '.lock').open('w') as lock:\n"
            "    fcntl.flock(lock, fcntl.LOCK_EX)\n"
            "    (folder / 'begun').touch()\n"
            "    while not (folder / 'end').exists(): time.sleep(0.05)\n"
            "    (folder / 'summary.json').write_text(sys.argv[2])\n",
            str(folder),
            json.dumps({"run_id": "0", "task": "t", "optim": "o", "metric": "m", "goal": "max"} | DONE),
        ]
    )
    try:
        wait_for((folder / "begun").exists)
        cli.run(cfg)
        (folder / "end").touch()
        count.on_multirun_end(where)
    finally:
        other.kill()
        other.wait()
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[-1] == "sweep of 1 runs: 1 done by another process"


def test_a_run_that_another_process_left_is_a_failure(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(sweep.VARIABLE, raising=False)
    where = OmegaConf.create({"output_dir": str(tmp_path / "out")})
    where.hydra = {"sweep": {"dir": str(tmp_path / "out")}, "sweeper": {}}
    count = sweep.SweepCallback()
    count.on_multirun_start(where)
    sweep.note(sweep.ELSEWHERE, tmp_path / "gone")
    with pytest.raises(SystemExit, match="1"):
        count.on_multirun_end(where)
    said = capsys.readouterr()
    assert "the same command continues it" in said.err
    assert said.out.splitlines()[-1] == "sweep of 1 runs: 1 failed"


def test_a_plan_does_nothing_and_says_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(sweep.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["run.py", "-m", *TINY, f"output_dir={tmp_path / 'out'}", "seed=0,1", "plan=true"])
    monkeypatch.setenv(validation.PLAN, "1")  # start() sets it; so it is taken back
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    schema.register()
    with pytest.raises(SystemExit) as end:
        cli.start(hydra.main(config_path=str(ROOT / "conf"), config_name="config", version_base="1.3")(cli.run))
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 runs:"
    assert [line.rpartition("  ")[2] for line in lines[2::2]] == ["to do", "to do"]
    assert not list(tmp_path.iterdir())


def test_ids_of_jobs_are_said_as_they_are_handed_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class AutoExecutor:  # stands in for submitit's
        folder = "outputs/slurm/%j"

        def map_array(self, function: Callable[[int], int], values: list[int]) -> list[Any]:
            return [SimpleNamespace(job_id=f"71_{function(value)}") for value in values]

    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=AutoExecutor))
    for _ in range(2):  # a second sweep of this process does not say them twice
        sweep.announce_jobs()
    assert [job.job_id for job in AutoExecutor().map_array(lambda value: value, [4, 5, 6])] == ["71_4", "71_5", "71_6"]
    AutoExecutor().map_array(lambda value: value, [7])
    assert capsys.readouterr().out.splitlines() == [
        "3 jobs submitted: 71_4 to 71_6; their output: outputs/slurm/%j",
        "1 jobs submitted: 71_7; their output: outputs/slurm/%j",
    ]
