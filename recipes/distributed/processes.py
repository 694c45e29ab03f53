"""Agreement between the processes of a run, so that they all take the same path and none waits for another.

Each decision is one exchange of results and errors. An error of one process is raised on all, so that a sweep continues
with its next run. An error outside an exchange is only known to its process: that process exits, and the others, which
wait for it in a collective, find the connection closed.

torch is only imported if there are several processes.
"""

import atexit
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

from recipes.errors import ConfigError, DeviceMemoryError

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = timedelta(days=30)  # timeout while the first process prepares or loads something
GRACE = timedelta(seconds=30)  # for the first process to print why a run failed
# What gloo and NCCL say when a process that they wait for has ended. NCCL has other errors, which name this process's.
LOST = re.compile(
    r"connection (closed|reset)|closed by remote peer|broken pipe|remote process|was aborted|timed out|timeout|gloo",
    re.IGNORECASE,
)


class LostProcessError(ConfigError):
    """Another process of the run has ended.

    Args:
        seen: by which error of this process.
    """

    def __init__(self, seen: BaseException) -> None:
        said = next(iter(str(seen).splitlines()), type(seen).__name__)
        super().__init__(
            f"another process of this run has ended ({said}); the same command continues from the last checkpoint"
        )


def launched() -> int:
    """The number of processes that a launcher started for this command."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process of rank 0, which prints and writes for all."""
    return int(os.environ.get("RANK", "0")) == 0


def joined() -> bool:
    """Whether this is one of several connected processes."""
    if launched() == 1:
        return False
    import torch.distributed as dist

    return dist.is_initialized() and dist.get_world_size() > 1


def join(cpu: bool) -> None:
    """Connect the processes that a launcher started; once for all runs of a sweep.

    Args:
        cpu: do not use accelerators.
    """
    if launched() == 1 or joined():
        return
    import torch
    from accelerate import PartialState

    PartialState(cpu=cpu or not torch.accelerator.is_available())
    _control()
    atexit.register(_leave)


def _leave() -> None:
    """Disconnect when the process exits.

    The others wait a while until the first process has exited: a launcher kills the rest when one exits with an error,
    and the first one has to print that error.
    """
    import torch
    import torch.distributed as dist

    try:
        if is_first():
            dist.destroy_process_group(_control())
        else:
            request = dist.irecv(torch.zeros(1), src=0, group=_control())
            assert request is not None
            request.wait(GRACE)
    except RuntimeError:
        pass  # the first process has exited
    dist.destroy_process_group()


@lru_cache
def _control() -> Any:
    """A process group on the CPU for exchanges; its timeout allows for a download or another run."""
    import torch.distributed as dist

    return dist.new_group(backend="gloo", timeout=PATIENCE)


def on_first(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function on the first process; all get its answer, which must be picklable.

    Raises:
        Exception: on the first process its error; on the others a ConfigError with the same message.
    """
    if not joined():
        return action(*args, **kwargs)
    answer, error = None, None
    if is_first():
        try:
            answer = action(*args, **kwargs)
        except Exception as raised:
            error = raised
    return _settle(answer, error)[0]


def on_all(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function on every process; each gets its own answer.

    Raises:
        Exception: the error of this process, or a ConfigError if only others have one.
    """
    answer: list[T] = []
    gather_from_all(lambda: answer.append(action(*args, **kwargs)))
    return answer[0]


def gather_from_all(action: Callable[[], T]) -> list[T]:
    """As on_all, but each gets the answers of all, in the order of ranks; they must be picklable.

    Raises:
        Exception: the error of this process, or a ConfigError if only others have one.
    """
    if not joined():
        return [action()]
    answer, error = None, None
    try:
        answer = action()
    except Exception as raised:
        error = raised
    return _settle(answer, error)


def check_same(what: str, value: object) -> None:
    """Raise an error if a picklable value differs between processes.

    Raises:
        ConfigError: on all processes.
    """
    if not joined():
        return
    values = _settle(value, None)
    other = next((rank for rank, theirs in enumerate(values) if theirs != values[0]), None)
    if other is not None:
        raise agreed(ConfigError(f"{what} differ between process 0 and process {other}; all must have the same"))


def _settle(answer: Any, error: Exception | None) -> list[Any]:
    """Exchange results, or raise an error on all processes if one has an error."""
    import torch.distributed as dist

    if error is not None and (is_agreed(error) or is_lost(error)):
        raise error  # of an exchange within the action: the others have it
    answers: list[Any] = [None] * dist.get_world_size()
    text = None if error is None else _words(error)
    dist.all_gather_object(answers, (answer, text), group=_control())
    failures = [(rank, text) for rank, (_, text) in enumerate(answers) if text is not None]
    if not failures:
        return [answer for answer, _ in answers]
    rank, text = failures[0]
    if error is not None:
        error.__dict__["of_all"] = len(failures) == len(answers)
    if error is None:
        raise agreed(ConfigError(text if rank == 0 else f"process {rank}: {text}"))
    if rank == dist.get_rank() != 0 and not isinstance(error, ConfigError | OSError):
        traceback.print_exception(error)  # the first process cannot print its stack trace
    raise agreed(error)


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ConfigError | DeviceMemoryError) else f"{type(error).__name__}: {text}"


def agreed(error: Exception) -> Exception:
    """Mark an error as one that all processes of the run raise."""
    error.__dict__["agreed"] = True
    return error


def is_agreed(error: BaseException) -> bool:
    """Whether all processes of the run raise this error or an equivalent."""
    return "agreed" in error.__dict__


def is_of_all(error: BaseException) -> bool:
    """Whether every process had an error of its own: none of them waits for another's part of a result."""
    return bool(error.__dict__.get("of_all"))


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process has ended."""
    if isinstance(error, LostProcessError):
        return True
    if not joined() or not isinstance(error, RuntimeError):
        return False
    import torch.distributed as dist

    by_type = isinstance(error, dist.DistNetworkError | dist.DistStoreError)
    return by_type or LOST.search(str(error)) is not None


def lost(error: BaseException) -> LostProcessError:
    """The error that says so to a user."""
    return error if isinstance(error, LostProcessError) else LostProcessError(error)


@contextmanager
def together() -> Iterator[None]:
    """Exit if only this process has an error within the block, which all processes run.

    Errors on which all processes agree are raised.
    """
    try:
        yield
    except Exception as error:
        if not joined() or is_agreed(error):
            raise
        if is_lost(error):
            if _speaks_of_loss():
                print(f"error: {lost(error)}", file=sys.stderr, flush=True)
        elif isinstance(error, ConfigError | OSError | DeviceMemoryError):
            print(f"error: process {os.environ['RANK']}: {_words(error)}", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
        atexit.unregister(_leave)
        sys.exit(1)


def _speaks_of_loss() -> bool:
    """Whether this process prints that another was lost; exactly one does, and the first may be the lost one."""
    from torch.distributed.distributed_c10d import _get_default_store

    try:
        return _get_default_store().add("loss is said", 1) == 1
    except RuntimeError:  # the store ended with the first process
        return os.environ["RANK"] == "1"


def broadcast_from_first(action: Callable[[], T]) -> T:
    """As on_first, for large results: plain values and tensors on the CPU in dicts, lists and tuples.

    Tensors are sent one by one, so that no copy of the whole is made.
    """
    if not joined():
        return action()
    answer: list[T] = []
    on_first(lambda: answer.append(action()))
    import torch
    import torch.distributed as dist
    from torch.utils._pytree import tree_flatten, tree_unflatten

    plan: list[Any] = [None]
    tensors: list[torch.Tensor] = []
    if is_first():
        leaves, structure = tree_flatten(answer[0])
        tensors = [leaf.contiguous() for leaf in leaves if isinstance(leaf, torch.Tensor)]
        plan = [([_meta(leaf) for leaf in leaves], structure)]
    dist.broadcast_object_list(plan, src=0, group=_control())
    leaves, structure = plan[0]
    if not is_first():
        tensors = [torch.empty_like(leaf, device="cpu") for leaf in leaves if isinstance(leaf, torch.Tensor)]
    for tensor in tensors:
        if tensor.numel():
            dist.broadcast(tensor.reshape(-1).view(torch.uint8), src=0, group=_control())
    received = iter(tensors)
    return tree_unflatten([next(received) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], structure)


def _meta(leaf: Any) -> Any:
    """A tensor without its data; any other value unchanged."""
    import torch

    if not isinstance(leaf, torch.Tensor):
        return leaf
    return torch.empty(leaf.shape, dtype=leaf.dtype, device="meta")
