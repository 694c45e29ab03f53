"""Starts a test file as two processes, and ends both where one fails: the other would wait for it for ever."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]


def results(file: str, folder: Path, seconds: float = 150) -> Any:
    """What the first process saved.

    Args:
        file: a program that takes a rank, a file for the rendezvous and one for the result.
        folder: of these files and the logs.
        seconds: after which both are ended.
    """
    result, processes = folder / "result.pt", []
    for rank in range(2):
        command = [sys.executable, file, str(rank), str(folder / "rendezvous"), str(result)]
        given = os.environ | {"PYTHONPATH": str(ROOT)}
        with (folder / f"{rank}.log").open("w") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=given))
    deadline = time.monotonic() + seconds
    try:
        while any(started.poll() is None for started in processes) and time.monotonic() < deadline:
            if any(started.poll() for started in processes):
                break
            time.sleep(0.05)
        statuses = [started.poll() for started in processes]
    finally:
        for started in processes:
            started.kill()
            started.wait()
    logs = "\n".join((folder / f"{rank}.log").read_text()[-3000:] for rank in range(2))
    assert statuses == [0, 0], logs
    return torch.load(result, weights_only=True)
