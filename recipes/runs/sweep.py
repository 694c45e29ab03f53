"""List and count the outcomes of a sweep's runs, and plan a sweep; a failed or diverged run does not end the others."""

import atexit
import ctypes
import fcntl
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
from omegaconf import DictConfig

from recipes.distributed import device_slots, processes
from recipes.runs import startup
from recipes.settings import schema as config
from recipes.settings.validation import PLAN

# Runs of a sweep may be other processes: the environment tells them where the sweep's list is.
VARIABLE = "LION_BENCH_SWEEP"
ELSEWHERE = "elsewhere"  # another process is writing this run, for example the same sweep started twice
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
    """Whether this process executes a run of a sweep."""
    return VARIABLE in os.environ


def planned() -> bool:
    """Whether the command has plan=true."""
    return PLAN in os.environ


def plan_line(cfg: DictConfig) -> str:
    """A run's folder, and what the same command without plan=true would do with it."""
    from recipes.runs.record import FINISHED, folder_of, read_summary

    folder = folder_of(cfg)
    status = (read_summary(folder) or {}).get("status")
    todo = f"{status}, not done again" if status in FINISHED else f"{status}, begun again" if status else "to do"
    if status not in FINISHED and (folder / "checkpoint").is_dir():
        todo = f"{status}, continues from its checkpoint"
    return f"{folder}  {todo}"


def wait_for(folder: Path) -> str | None:
    """Wait until no process writes a record any more, and return its status."""
    from recipes.runs.record import read_summary

    try:
        with (folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        pass  # deleted or not accessible: the summary decides, if it can be read
    return (read_summary(folder) or {}).get("status")


def end_with_parent() -> None:
    """Have Linux kill this process when its parent ends, if it is a launcher's worker.

    Otherwise a worker would continue with its runs while the same sweep, started again, does them too. Killed runs
    continue from their checkpoints.
    """
    if multiprocessing.current_process().name != "MainProcess" and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def announce_jobs() -> None:
    """Print the ids of jobs when they are submitted: submitit's launcher prints nothing until the last has ended."""
    import submitit

    submit = submitit.AutoExecutor.map_array
    if getattr(submit, "announces", False):
        return

    def announced(self: Any, *args: Any, **kwargs: Any) -> Any:
        jobs = submit(self, *args, **kwargs)
        ids = [str(job.job_id) for job in jobs]
        shown = ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
        print(f"{len(ids)} jobs submitted: {shown}; their output: {self.folder}", flush=True)
        return jobs

    announced.announces = True  # type: ignore[attr-defined]
    submitit.AutoExecutor.map_array = announced


class SweepCallback(Callback):
    """Hydra callback: opens the list before a sweep's first run, and prints the count after its last.

    Several processes of one command go through the same runs, each with its own list; the first one prints.
    """

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Open the list; with plan=true the sweep ends here."""
        if planned():
            if str(config.hydra.sweeper.get("_target_")).endswith("TuningSweeper"):
                return  # it prints the plan
            sys.exit(_print_plan(config))
        launcher = str(config.hydra.launcher.get("_target_")) if "launcher" in config.hydra else BASIC
        if processes.launched() > 1 and launcher != BASIC:
            _end(
                f"hydra/launcher={launcher.rpartition('.')[2]} starts processes itself, and this command has "
                f"{processes.launched()}: choose one of both"
            )
        if "submitit" in launcher:
            announce_jobs()
        if "joblib" in launcher and not _on_cpu(config):
            device_slots.open_slots(int(config.hydra.launcher.n_jobs))
        try:
            place = Path(config.hydra.sweep.dir)
            place.mkdir(parents=True, exist_ok=True)  # before Hydra does, which would print a stack trace
            with tempfile.NamedTemporaryFile(dir=place):  # Hydra writes multirun.yaml there
                pass
        except OSError as error:
            _end(f"output_dir={config.output_dir}: cannot be written ({error.strerror}); choose another")
        handle, path = tempfile.mkstemp(prefix="lion-bench-sweep-", suffix=".jsonl")
        os.close(handle)

        def forget() -> None:
            Path(path).unlink(missing_ok=True)

        atexit.register(forget)  # if the sweep is interrupted
        startup.on_leaving(forget)
        os.environ[VARIABLE] = path

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Print the count; leave with status 1 if a run failed."""
        if not active():  # a sweep that was only planned
            return
        path = Path(os.environ.pop(VARIABLE))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        if not lines:  # a sweep that was only planned
            return
        for line in lines:
            if line["status"] == ELSEWHERE:
                _settle(line)
        counts = Counter(line["status"] for line in lines)
        failed = [line for line in lines if line["status"] == "failed"]
        if processes.is_first():
            print(f"sweep of {len(lines)} runs: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items())))
            for line in failed:
                print(f"failed: {line['folder']}: {line['cause']}", file=sys.stderr)
        if failed:
            sys.exit(1)


def _on_cpu(config: Any) -> bool:
    """Whether the sweep's runs do not use GPUs."""
    return str(config.get("device", "auto")) == "cpu"


def _settle(line: dict[str, Any]) -> None:
    """Wait for a run that another process executes, and add its status to the list."""
    from recipes.runs.record import FINISHED

    print(f"waiting for {line['folder']}, which another process is writing", flush=True)
    status = wait_for(Path(line["folder"]))
    if status in FINISHED:
        line["status"] = "done by another process"
    else:
        cause = f"the other process left it {status or 'unwritten'}; the same command continues it"
        line |= {"status": "failed", "cause": cause}


def _print_plan(config_of_sweep: Any) -> int:
    """A line for each run of a plain sweep; returns the exit status."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    parsed = parser.parse_overrides(list(config_of_sweep.hydra.overrides.task))
    runs = [run for batch in BasicSweeper.split_arguments(parsed, None) for run in batch]
    print(f"{len(runs)} runs:")
    for run in runs:
        print(f"  {' '.join(run)}\n    {plan_line(config.composed(list(run)))}")
    return 0


def _end(mistake: str) -> NoReturn:
    """Exit with the message of a user's mistake, printed by the first process."""
    sys.exit(f"error: {mistake}" if processes.is_first() else 1)
