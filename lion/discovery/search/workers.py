"""Who evaluates programs: this process, several on this machine, or Ray's, on as many machines as its cluster has.

What a search does follows from the number of workers, not from their kind or timing.
"""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from lion.discovery.language.program import Program
from lion.discovery.tasks.proxy import Proxy

Result = Callable[[], list[float]]


class Evaluator(Protocol):
    """Anything that scores programs."""

    def submit(self, programs: Sequence[Program]) -> Result:
        """Begin to evaluate; calling what is returned waits, and gives the fitnesses in order."""
        ...


class Inline:
    """Evaluates in this process, at once."""

    def __init__(self, task: Proxy) -> None:
        self.task = task

    def submit(self, programs: Sequence[Program]) -> Result:
        """See Evaluator."""
        values = [self.task.fitness(program) for program in programs]
        return lambda: values


class Processes:
    """Evaluates in processes of this machine, each with its copy of the task. Use it in a `with` statement."""

    def __init__(self, task: Proxy, workers: int) -> None:
        # spawned, not forked: a fork of a process in which torch has threads may hang
        self._pool = multiprocessing.get_context("spawn").Pool(workers, initializer=_begin, initargs=(task,))

    def submit(self, programs: Sequence[Program]) -> Result:
        """See Evaluator."""
        return self._pool.map_async(_evaluate, programs, chunksize=1).get

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.terminate()
        self._pool.join()


class RayWorkers:
    """Evaluates as tasks of Ray. Use it in a `with` statement.

    A cluster that runs is joined if the environment's RAY_ADDRESS names it (`auto` for the one of this machine); else a
    local one is started, and stopped at the end. Machines of a cluster need this package and the same versions of
    numpy and torch, or their losses may differ in the last bits.

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(self, task: Proxy, workers: int) -> None:
        import ray

        self._ray: Any = ray
        self._own = not ray.is_initialized()
        if self._own:
            joins = "RAY_ADDRESS" in os.environ
            options: dict[str, Any] = {} if joins else {"num_cpus": workers, "include_dashboard": False}
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        self._task = ray.put(task)
        self._fitness = ray.remote(_fitness)

    def submit(self, programs: Sequence[Program]) -> Result:
        """See Evaluator."""
        waiting = [self._fitness.remote(self._task, program) for program in programs]
        return lambda: self._ray.get(waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:
            self._ray.shutdown()


def _fitness(task: Proxy, program: Program) -> float:
    return task.fitness(program)


_task: Proxy | None = None


def _begin(task: Proxy) -> None:
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the main process ends the others


def _evaluate(program: Program) -> float:
    assert _task is not None
    return _task.fitness(program)
