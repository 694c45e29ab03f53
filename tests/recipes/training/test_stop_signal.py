"""A run that is asked to stop, also by a terminal that closes, leaves a checkpoint."""

import os
import pty
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from recipes.runs.record import read_summary
from tests.processes import end, start, train
from tests.recipes.conftest import TINY

LONG = [*TINY, "steps=100000", "eval_every=100000", "checkpoint_every=100000", "log_every=5"]


def on_terminal(name: str, overrides: list[str]) -> None:
    """Run in a terminal: a process that leads a session and opens one has it for its own."""
    terminal = os.open(name, os.O_RDWR)
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)
    train([overrides])


def under_nohup(overrides: list[str]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    train([overrides])


def wait_for_steps(folder: Path, process: BaseProcess) -> Path:
    while not any(path.stat().st_size for path in folder.glob("*/*/*/metrics.jsonl")):
        assert process.is_alive()
        time.sleep(0.01)
    return next(folder.glob("*/*/*"))


def assert_can_go_on(folder: Path) -> None:
    summary = read_summary(folder)
    assert summary is not None
    assert summary["status"] == "interrupted"
    assert summary["cause"].startswith("stopped at step")
    assert len(list((folder / "checkpoint").glob("step-*"))) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    said, out = tmp_path / "said", tmp_path / "out"
    (process,) = start(train, [[*LONG, f"output_dir={out}"]], count=1, said=said)
    folder = wait_for_steps(out, process)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert end([process], said) == [130]
    assert "the same command continues from there" in Path(f"{said}-0").read_text()
    assert_can_go_on(folder)


def test_a_terminal_that_closes_leaves_a_checkpoint(tmp_path: Path) -> None:
    said, out = tmp_path / "said", tmp_path / "out"
    main, terminal = pty.openpty()
    os.set_blocking(main, False)
    name = os.ttyname(terminal)
    (process,) = start(on_terminal, name, [*LONG, f"output_dir={out}"], count=1, said=said)
    folder = wait_for_steps(out, process)
    os.close(terminal)
    os.close(main)  # the system sends SIGHUP, and each write to the terminal fails from here on
    assert end([process], said) == [130]
    assert_can_go_on(folder)


def test_under_nohup_a_run_goes_on(tmp_path: Path) -> None:
    said, out = tmp_path / "said", tmp_path / "out"
    (process,) = start(under_nohup, [*TINY, "steps=100", f"output_dir={out}"], count=1, said=said)
    wait_for_steps(out, process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGHUP)
    assert end([process], said) == [0]
