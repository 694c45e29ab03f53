"""Counting what a sweep's runs came to. One that fails or diverges does not end the others."""

import atexit
import ctypes
import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from hydra.experimental.callback import Callback

from recipes import processes

# Runs of a sweep may be other processes: they find the sweep's list through the environment.
VARIABLE = "LION_BENCH_SWEEP"
PR_SET_PDEATHSIG = 1  # of prctl(2)
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def note(status: str, folder: Path, cause: str | None = None) -> None:
    """Add a run to the list of the sweep that it belongs to, if it belongs to one."""
    path = os.environ.get(VARIABLE)
    if path:
        line = json.dumps({"status": status, "folder": str(folder), "cause": cause}) + "\n"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, line.encode())  # one short write: lines of parallel runs do not mix
        os.close(handle)


def active() -> bool:
    """Whether this process does a run of a sweep."""
    return VARIABLE in os.environ


def end_with_parent() -> None:
    """Have Linux kill this process when the one that launched it has gone, if it is a launcher's worker.

    A worker would otherwise do the runs that it was given, beside those of the same sweep started again. Killed runs
    go on from their checkpoints.
    """
    if multiprocessing.current_process().name != "MainProcess" and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Count(Callback):
    """Hydra callback: opens the list before a sweep's first run, and prints the count after its last.

    Several processes go through the same runs, each with a list of its own; the first one prints.
    """

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Open the list."""
        launcher = str(config.hydra.launcher.get("_target_")) if "launcher" in config.hydra else BASIC
        if processes.launched() > 1 and launcher != BASIC:
            _end(
                f"hydra/launcher={launcher.rpartition('.')[2]} starts processes of its own, and this command has "
                f"{processes.launched()}: choose one of both"
            )
        try:
            Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # before Hydra does, which would trace
        except OSError as error:
            _end(f"output_dir={config.output_dir}: cannot be written ({error.strerror}); choose another")
        handle, path = tempfile.mkstemp(prefix="lion-bench-sweep-", suffix=".jsonl")
        os.close(handle)
        atexit.register(Path(path).unlink, missing_ok=True)  # where the sweep is interrupted
        os.environ[VARIABLE] = path

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Print the count; leave with status 1 if a run failed."""
        path = Path(os.environ.pop(VARIABLE))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        if not lines:  # a sweep that was only planned
            return
        counts = Counter(line["status"] for line in lines)
        failed = [line for line in lines if line["status"] == "failed"]
        if processes.is_first():
            print(f"sweep of {len(lines)} runs: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items())))
            for line in failed:
                print(f"failed: {line['folder']}: {line['cause']}", file=sys.stderr)
        if failed:
            sys.exit(1)


def _end(mistake: str) -> NoReturn:
    """End the command with a user's mistake, which the first process says."""
    sys.exit(f"error: {mistake}" if processes.is_first() else 1)
