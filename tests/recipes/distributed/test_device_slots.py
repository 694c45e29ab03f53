import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import joblib
import pytest

from recipes.distributed import device_slots

ROOT = Path(__file__).resolve().parents[3]
TAKES = "from recipes.distributed import device_slots; print(device_slots.take_slot(), flush=True); input()"


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device_slots.VISIBLE, "0,1,2,3,4,5,6,7")
    monkeypatch.delenv(device_slots.FOLDER, raising=False)


def worker() -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", TAKES], stdin=pipe, stdout=pipe, text=True, cwd=ROOT)


def device_of(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


def test_each_process_has_a_gpu_of_its_own_and_a_killed_one_frees_it(eight: None) -> None:
    device_slots.open_slots(8)
    workers = [worker() for _ in range(8)]
    try:
        assert sorted(map(device_of, workers)) == list("01234567")
        late = worker()
        assert device_of(late) == "None"
        late.kill()
        late.wait()
        workers[3].kill()
        workers[3].wait()
        workers.append(worker())
        assert device_of(workers[-1]) in "01234567"
    finally:
        for process in workers:
            process.kill()
            process.wait()


def test_more_processes_than_gpus_share_them_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device_slots.VISIBLE, "GPU-a, GPU-b")
    device_slots.open_slots(5)
    workers = [worker() for _ in range(5)]
    try:
        assert Counter(map(device_of, workers)) == {"GPU-a": 3, "GPU-b": 2}
    finally:
        for process in workers:
            process.kill()
            process.wait()


def taken(number: int) -> tuple[int, str | None, str | None]:
    """What a job of joblib's sees, twice: a worker keeps its GPU for all its jobs."""
    return os.getpid(), device_slots.take_slot(), device_slots.take_slot()


def test_joblibs_workers_keep_their_gpu_for_all_their_jobs(eight: None) -> None:
    device_slots.open_slots(2)
    seen = joblib.Parallel(n_jobs=2)(joblib.delayed(taken)(number) for number in range(12))
    by_process: dict[int, set] = {}
    for process, first, second in seen:
        by_process.setdefault(process, set()).update({first, second})
    assert all(len(held) == 1 for held in by_process.values())
    assert len(set.union(*by_process.values())) == len(by_process)


@pytest.mark.parametrize(("visible", "expected"), [("", []), ("-1", []), ("2", ["2"]), ("1, 3", ["1", "3"])])
def test_what_is_visible_is_what_is_handed_out(monkeypatch, visible: str, expected: list[str]) -> None:
    monkeypatch.setenv(device_slots.VISIBLE, visible)
    monkeypatch.delenv(device_slots.FOLDER, raising=False)
    assert device_slots.devices() == expected
    device_slots.open_slots(2)
    assert (device_slots.FOLDER in os.environ) == bool(expected)


def test_a_containers_gpus_are_counted_as_cuda_counts_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their files keep the host's numbers there."""
    monkeypatch.delenv(device_slots.VISIBLE, raising=False)
    for name in ("nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert device_slots.devices(tmp_path) == ["0", "1"]


def test_without_slots_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(device_slots.FOLDER, raising=False)
    before = dict(os.environ)
    assert device_slots.take_slot() is None
    assert dict(os.environ) == before
