"""What processes of a run decide together, and what becomes of the others when one is wrong or gone."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from recipes.distributed import processes
from recipes.errors import ConfigError, DeviceMemoryError
from recipes.files import write_json
from recipes.runs.record import folder_of, read_metrics, read_summary
from recipes.training import checkpoint
from tests.processes import command, end, start, train
from tests.recipes.conftest import TINY, composed
from tests.recipes.runs.test_prerequisite import WHOLE

ADAMW = [*TINY, "optim=adamw", "ema_decay=0.5"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (dist.DistBackendError("[2] is setting up NCCL communicator\nConnection closed by remote peer host<3>"), True),
        (dist.DistBackendError("NCCL error: remote process exited or there was a network error"), True),
        (dist.DistNetworkError("The client socket has failed to connect"), True),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection reset by peer"), True),
        (dist.DistBackendError("NCCL error: invalid usage\nDuplicate GPU detected : rank 1 and rank 0"), False),
        (dist.DistBackendError("NCCL error: unhandled cuda error\nCuda failure 2 'out of memory'"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("Connection reset by peer"), False),
    ],
)
def test_a_lost_process_is_told_from_an_error_of_this_one(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: bool
) -> None:
    monkeypatch.setattr(processes, "joined", lambda: True)
    assert processes.is_lost(error) == expected
    assert str(error).splitlines()[0] in str(processes.lost(error))


def test_too_little_memory_is_one_line_of_each_process(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(processes, "joined", lambda: True)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit), processes.together():
        raise DeviceMemoryError("this device is too small; accumulate=4 fits")
    assert capsys.readouterr().err == "error: process 1: this device is too small; accumulate=4 fits\n"


def decide() -> None:
    """Both processes go through all ways of deciding."""
    processes.join(cpu=True)
    rank = int(os.environ["RANK"])

    def fails_on(number: int, kind: type[Exception] = ConfigError) -> int:
        if rank == number:
            raise kind(f"of process {rank}")
        return rank

    assert processes.on_first(lambda: rank) == 0
    assert processes.on_all(lambda: rank) == rank
    processes.check_same("things", 1)
    for action, said in (
        (lambda: processes.on_first(lambda: fails_on(0)), "of process 0"),
        (lambda: processes.on_all(lambda: fails_on(0)), "of process 0"),
        (lambda: processes.on_all(lambda: fails_on(1)), "of process 1" if rank else "process 1: of process 1"),
        (lambda: processes.check_same("things", rank), "things differ between process 0 and process 1"),
        # One is in a decision within another's, and both hear of it.
        (lambda: processes.on_all(lambda: fails_on(1) + processes.on_first(lambda: 1)), "of process 1"),
        (lambda: processes.on_all(lambda: processes.on_first(lambda: fails_on(0))), "of process 0"),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            action()
        assert processes.is_agreed(error.value)
    with pytest.raises(ConfigError if rank == 0 else OSError, match="of process 1") as error:
        processes.on_all(lambda: fails_on(1, OSError))
    assert not processes.is_of_all(error.value)
    with pytest.raises(OSError, match=f"of process {rank}") as error:
        processes.on_all(lambda: fails_on(rank, OSError))
    assert processes.is_of_all(error.value)
    assert processes.on_first(lambda: "in step again") == "in step again"
    tensors = {
        "odd": torch.arange(6.0).reshape(2, 3).T,
        "half": [torch.tensor(1.5, dtype=torch.bfloat16), torch.zeros(0)],
        "plain": ("text", None, True, torch.tensor([True, False])),
    }
    result = processes.broadcast_from_first(lambda: tensors if rank == 0 else pytest.fail("asked elsewhere"))
    assert result.keys() == tensors.keys()
    assert result["plain"][:3] == tensors["plain"][:3]
    one, other = ([value["odd"], *value["half"], value["plain"][3]] for value in (result, tensors))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_decisions_of_two_processes(tmp_path: Path) -> None:
    said = tmp_path / "said"
    assert end(start(decide, said=said), said) == [0, 0], said.with_name("said-0").read_text()


def test_one_process_decides_alone_without_torch() -> None:
    assert (
        processes.on_first(lambda: 1) == processes.on_all(lambda: 1) == processes.broadcast_from_first(lambda: 1) == 1
    )
    processes.check_same("things", object())
    with pytest.raises(ZeroDivisionError), processes.together():
        raise ZeroDivisionError


def measured(folder: Path) -> list[tuple[int, str, str, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(li["step"], li["split"], li["name"], li["value"]) for li in lines if li["split"] != "time"]


def test_the_first_processs_checkpoint_is_everyones(tmp_path: Path) -> None:
    """On machines without a shared disk, with a torn checkpoint on one of them, and with none on the other."""
    said = tmp_path / "said"
    whole, cut = ([*ADAMW, f"output_dir={tmp_path / name}"] for name in ("whole", "cut"))
    assert end(start(train, [whole], None, True, said=said), said) == [0, 0]
    assert not (tmp_path / "whole-1").exists()
    assert end(start(train, [cut], 12, True, said=said), said) == [9, 9]
    (folder,) = (tmp_path / "cut-0").glob("*/*/*")
    newest = folder / "checkpoint" / "step-00000010" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    assert end(start(train, [cut, whole], None, True, said=said), said) == [0, 0]
    told = [Path(f"{said}-{rank}").read_text() for rank in range(2)]
    assert "passed over: model.safetensors is missing or truncated" in told[0]
    assert "resuming from step 5" in told[0]
    assert "is completed already" in told[0]
    assert told[1] == "completed: the run's end\nskipped: the run's end\n"
    (other,) = (tmp_path / "whole-0").glob("*/*/*")
    assert measured(folder) == measured(other)


def too_large_then_fitting(output: str) -> None:
    from recipes.runs import experiment
    from recipes.runs.dry_run import memory_advice
    from recipes.training.loop import Trainer

    def exhausted(*_) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    step, memory_advice.after = Trainer._step, lambda *_: "too small"
    Trainer._step = lambda *_: processes.on_all(exhausted)  # as the first step does where it is compiled
    with pytest.raises(DeviceMemoryError, match="too small"):
        experiment.run(composed(*ADAMW, "steps=2", f"output_dir={output}"))
    Trainer._step = step
    assert experiment.run(composed(*ADAMW, "steps=2", "seed=1", f"output_dir={output}")) == "completed"


def test_a_sweep_goes_on_where_a_run_was_too_large_for_every_process(tmp_path: Path) -> None:
    said = tmp_path / "said"
    ends = end(start(too_large_then_fitting, str(tmp_path / "out"), said=said), said)
    assert ends == [0, 0], [path.read_text() for path in tmp_path.glob("said*")]
    summaries = [read_summary(path.parent) for path in (tmp_path / "out").rglob("summary.json")]
    assert sorted((each["seed"], each["status"]) for each in summaries) == [(0, "failed"), (1, "completed")]


def test_a_sweep_of_two_processes_speaks_once_and_ends_with_one_status(tmp_path: Path) -> None:
    said = tmp_path / "said"
    sweep = ["-m", *ADAMW, "seed=0,1", "model.args.num_heads=2,3", "steps=4", f"output_dir={tmp_path / 'out'}"]
    assert end(start(command, sweep, said=said), said) == [1, 1]
    told = Path(f"{said}-0").read_text()
    assert "sweep of 4 runs: 2 completed, 2 failed\n" in told
    assert told.count("model.name=vit_base_patch16_224 does") == 4  # as it happens, and in the list of failures
    assert "sweep of" not in Path(f"{said}-1").read_text()
    assert end(start(command, [text for text in sweep if text != "model.args.num_heads=2,3"], said=said), said) == [
        0,
        0,
    ]
    assert "sweep of 2 runs: 2 skipped\n" in Path(f"{said}-0").read_text()
    assert end(start(command, [*sweep, "hydra/launcher=parallel"], said=said), said) == [1, 1]
    assert "starts processes itself, and this command has 2" in Path(f"{said}-0").read_text()


@pytest.mark.parametrize("victim", [0, 1])
def test_where_one_process_is_killed_the_others_end_with_one_line(tmp_path: Path, victim: int) -> None:
    said = tmp_path / "said"
    run = [*ADAMW, "steps=100000", f"output_dir={tmp_path / 'out'}"]
    both = start(train, [run], said=said)
    while not list(tmp_path.glob("out/*/*/*/checkpoint/step-*")):
        assert all(process.is_alive() for process in both)
        time.sleep(0.01)
    pid = both[victim].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    status = end(both, said, seconds=20)
    assert status[victim] == -signal.SIGKILL
    assert status[1 - victim] == 1
    told = Path(f"{said}-{1 - victim}").read_text()
    assert told.splitlines()[-1].startswith("error: another process of this run has ended (")
    assert told.splitlines()[-1].endswith("); the same command continues from the last checkpoint")
    assert "Traceback" not in told
    (folder,) = (tmp_path / "out").glob("*/*/*")
    summary = read_summary(folder)
    assert summary is not None
    assert summary["status"] == "interrupted"


def ask(overrides: list[str]) -> None:
    """Both processes need a run that is not done yet."""
    from recipes.runs import prerequisite, record
    from recipes.settings import schema

    processes.join(cpu=True)

    def do(overrides: list[str], _: int) -> None:
        print("done here")
        write_json(record.folder_of(schema.composed(overrides)) / "summary.json", WHOLE | {"status": "completed"})

    prerequisite._do = do
    print(prerequisite.folder(composed(*overrides)))


def test_the_first_process_does_the_run_that_another_starts_from(tmp_path: Path) -> None:
    said = tmp_path / "said"
    asking = [*ADAMW, "init_from='run:task=vit_b16 optim=adamw seed=3'", f"output_dir={tmp_path / 'out'}"]
    assert end(start(ask, asking, said=said), said) == [0, 0]
    first, second = (Path(f"{said}-{rank}").read_text().splitlines() for rank in range(2))
    assert first[-2] == "done here"
    assert second == first[-1:]


def fail_alone(overrides: list[str]) -> None:
    """A process that cannot write a checkpoint, and one whose step fails."""
    from recipes.runs import experiment
    from recipes.training import sampler

    cfg = composed(*overrides)
    save, seed_all = checkpoint.save, sampler.seed_all

    def full(*arguments: object) -> None:
        raise ConfigError("the disk is full")

    def fails(*key: int) -> None:
        if key[1:] == (7, 1):
            raise ConfigError("this picture cannot be read")
        seed_all(*key)

    checkpoint.save = full  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="the disk is full"):
        experiment.run(cfg)
    checkpoint.save, sampler.seed_all = save, fails
    print(experiment.run(cfg))


def test_an_error_of_one_process_ends_all(tmp_path: Path) -> None:
    said = tmp_path / "said"
    run = [*ADAMW, f"output_dir={tmp_path / 'out'}"]
    assert end(start(fail_alone, run, said=said), said, seconds=60) == [1, 1]
    told = [Path(f"{said}-{rank}").read_text() for rank in range(2)]
    assert told[0].splitlines()[-1].startswith("error: another process of this run has ended")
    assert told[1] == "error: process 1: this picture cannot be read\n"
    (folder,) = (tmp_path / "out").glob("*/*/*")
    assert folder == folder_of(composed(*run))
    summary = read_summary(folder)
    assert summary is not None
    assert summary["status"] == "interrupted"
