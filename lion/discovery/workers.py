"""Who evaluates programs: this process, or several on this machine. Another kind is another class with `submit`."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from lion.discovery.ir import Program
from lion.discovery.proxy import Task

Result = Callable[[], list[float]]


class Evaluator(Protocol):
    """Anything that scores programs."""

    def submit(self, programs: Sequence[Program]) -> Result:
        """Begin to evaluate; calling what is returned waits, and gives the fitnesses in order."""
        ...


class Inline:
    """Evaluates in this process, at once."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def submit(self, programs: Sequence[Program]) -> Result:
        """See Evaluator."""
        values = [self.task.fitness(program) for program in programs]
        return lambda: values


class Processes:
    """Evaluates in processes of this machine, each with its copy of the task. Use it in a `with` statement."""

    def __init__(self, task: Task, workers: int) -> None:
        # spawned, not forked: a fork of a process in which torch has threads may hang
        self._pool = multiprocessing.get_context("spawn").Pool(workers, initializer=_begin, initargs=(task,))

    def submit(self, programs: Sequence[Program]) -> Result:
        """See Evaluator."""
        return self._pool.map_async(_evaluate, programs, chunksize=1).get

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.terminate()
        self._pool.join()


_task: Task | None = None


def _begin(task: Task) -> None:
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the main process ends the others


def _evaluate(program: Program) -> float:
    assert _task is not None
    return _task.fitness(program)
