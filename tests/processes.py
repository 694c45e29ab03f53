"""Runs on several processes of this machine, forked from one that has imported everything: a start takes no seconds."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PRELOADED = [
    "torch",
    "timm",
    "transformers",
    "accelerate",
    "hydra",
    "recipes.training.loop",
    "recipes.classification",
    __name__,
]


def context() -> Any:
    """Where processes are forked from a server that has done the imports, and no threads."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    return server


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def start(function: Callable[..., None], *arguments: Any, count: int = 2, said: Path) -> list[BaseProcess]:
    """Start processes as torchrun would, each with its rank; what they print goes to files said-<rank>."""
    port = free_port()
    processes = []
    for rank in range(count):
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
        }
        target = (function, arguments, environment if count > 1 else {}, f"{said}-{rank}")
        processes.append(context().Process(target=_begin, args=target))
        processes[-1].start()
    return processes


def _begin(function: Callable[..., None], arguments: tuple[Any, ...], environment: dict[str, str], said: str) -> None:
    os.setsid()  # signals for the tests do not reach these
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    multiprocessing.set_start_method("fork", force=True)  # for loaders, as in a process that was started plainly
    os.environ |= environment | {"OMP_NUM_THREADS": "1"}
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False), os.fdopen(2, "w", closefd=False)
    import atexit

    status: Any = 0
    try:
        function(*arguments)
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except KeyboardInterrupt as error:
        print(error, file=sys.stderr)
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # and what follows: multiprocessing leaves both out
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status or 0))


def train(runs: Sequence[Sequence[str]], die_at: int | None = None, apart: bool = False) -> None:
    """Do runs one after the other.

    Args:
        die_at: the step at whose beginning the process ends without a word.
        apart: each process writes to a place of its own, as on machines without a shared disk.
    """
    from recipes.runs import experiment
    from recipes.training import sampler
    from tests.recipes.conftest import composed

    seed_all = sampler.seed_all

    def seed_or_die(*key: int) -> None:
        if len(key) == 3 and key[1] == die_at:  # (seed, step, process): the beginning of a step
            os._exit(9)
        seed_all(*key)

    sampler.seed_all = seed_or_die
    for overrides in runs:
        cfg = composed(*overrides)
        if apart:
            cfg.output_dir += f"-{os.environ['RANK']}"
        print(f"{experiment.run(cfg)}: the run's end")


def command(arguments: Sequence[str]) -> None:
    """Do what `python run.py ...` does."""
    import hydra

    from recipes.runs import cli
    from recipes.settings import schema

    sys.argv = [str(ROOT / "run.py"), *arguments]
    schema.register()
    sys.exit(cli.start(hydra.main(config_path=str(ROOT / "conf"), config_name="config", version_base="1.3")(cli.run)))


def end(processes: Sequence[BaseProcess], said: Path, seconds: float = 120) -> list[int]:
    """Wait for processes; returns their exit statuses."""
    for process in processes:
        process.join(seconds)
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
        process.join()
    assert not late, "\n".join(Path(f"{said}-{rank}").read_text() for rank in range(len(processes)))
    return [int(process.exitcode or 0) for process in processes]
