"""Two processes as two machines have them: each with a working folder and a cache of its own, no disk in common."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import free_port

ROOT = Path(__file__).resolve().parents[3]
SHORT = [
    "task=vit_b16",
    "optim=lion",
    "steps=6",
    "eval_every=6",
    "schedule.warmup_steps=2",
    "tracker=none",
    "device=cpu",
]


def machines(folder: Path, *overrides: str) -> list[subprocess.Popen]:
    """One process on each of two machines, as torchrun would start them."""
    port, started = str(free_port()), []
    for rank in ("0", "1"):
        place = folder / f"machine{rank}"
        place.mkdir(exist_ok=True)
        environment = os.environ | {"RANK": rank, "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
        environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        environment |= {"LION_BENCH_CACHE": str(place / "cache")}
        command = [sys.executable, str(ROOT / "run.py"), *SHORT, *overrides]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, cwd=place, stdout=pipe, stderr=pipe, text=True))
    return started


@pytest.mark.slow
def test_outputs_need_no_disk_in_common(tmp_path: Path) -> None:
    for process in (started := machines(tmp_path)):
        _, errors = process.communicate(timeout=540)
        assert process.returncode == 0, errors
    assert len(list((tmp_path / "machine0").rglob("summary.json"))) == 1
    assert not (tmp_path / "machine1" / "outputs").exists()
    assert len(started) == 2


def test_a_file_that_one_machine_lacks_is_a_line_of_that_machine(tmp_path: Path) -> None:
    (tmp_path / "machine0" / "weights").mkdir(parents=True)
    first, second = machines(tmp_path, "init_from=weights")
    try:
        said, errors = second.communicate(timeout=540)
        assert second.returncode == 1
        (line,) = errors.splitlines()
        assert line.startswith("error: process 1: init_from=weights does not exist")
        assert said == ""
    finally:
        first.kill()  # as torchrun does
        first.wait()


@pytest.mark.parametrize("local", ["0", "1"])
def test_of_the_processes_of_a_machine_the_first_speaks(local: str, tmp_path: Path) -> None:
    environment = os.environ | {"RANK": "3", "LOCAL_RANK": local, "WORLD_SIZE": "4"}
    command = [sys.executable, str(ROOT / "run.py"), "task=vit_s16", "stpes=3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert bool(done.stderr) == (local == "0")
