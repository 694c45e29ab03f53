"""The examples of each step: a permutation for each (seed, epoch), with one integer as its cursor.

The cursor is the number of examples that earlier steps have used. A resumed run therefore needs only its step, and any
number of processes and loader workers gets the same global batches.
"""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from recipes.data import listing
from recipes.distributed import device_slots

Batch = dict[str, torch.Tensor]
Key = tuple[int, int]  # position in the run, index in the data set


class Examples(Protocol):
    """A map-style data set that returns whole batches."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """The examples at these indices; random draws follow from the positions alone."""
        ...

    def fingerprint(self) -> str:
        """A hash of the content."""
        ...


def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of one epoch, as int64 indices."""
    return np.random.default_rng([seed, epoch]).permutation(length)


class TrainBatches:
    """The keys of each micro-batch that one process trains on, from `first_step` on.

    Args:
        length: examples in the data set; an epoch's end may fall inside a batch.
        batch_size: examples a step over all processes and micro-batches.
        steps: length of the run.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        batch_size: int,
        steps: int,
        first_step: int = 0,
        accumulate: int = 1,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.length, self.seed = length, seed
        self.batch_size, self.steps, self.first_step = batch_size, steps, first_step
        self.accumulate, self.rank, self.processes = accumulate, rank, processes

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        micro = self.batch_size // (self.accumulate * self.processes)
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.first_step, self.steps):
            for part in range(self.accumulate):
                start = step * self.batch_size + (part * self.processes + self.rank) * micro
                keys = []
                for position in range(start, start + micro):
                    if position // self.length != epoch:
                        epoch = position // self.length
                        order = permutation(self.seed, epoch, self.length)
                    keys.append((position, int(order[position % self.length])))
                yield keys


class EvalBatches:
    """Every example once, in order, spread over the processes batch by batch.

    All processes get the same number of batches of the same size, as sharded models need. The last example is repeated
    to fill them; the caller, who knows the data set's length, cuts the repetitions off.
    """

    def __init__(self, length: int, *, batch_size: int, rank: int = 0, processes: int = 1) -> None:
        self.length, self.rank, self.processes = length, rank, processes
        # One batch over all processes takes `processes * batch_size` examples; small sets need no more than this.
        self.batch_size = max(1, min(batch_size, -(-length // processes)))

    def __len__(self) -> int:
        return -(-self.length // (self.batch_size * self.processes))

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in range(len(self)):
            start = (batch * self.processes + self.rank) * self.batch_size
            yield [(i, min(i, self.length - 1)) for i in range(start, start + self.batch_size)]


def loader(examples: Examples, batches: TrainBatches | EvalBatches, workers: int, pin: bool) -> DataLoader[Any]:
    """A torch loader over these batches; `workers` processes prepare them ahead of the device.

    On Linux they are forked and share the examples. Python 3.14's default copies these into each, mapped files whole.
    macOS can fork, but its libraries are not safe after it.
    """
    return DataLoader(
        examples,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=_as_is,
        num_workers=workers,
        pin_memory=pin,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        worker_init_fn=_leave_signals,
        persistent_workers=workers > 0 and isinstance(batches, EvalBatches),
    )


def workers(wanted: int) -> int:
    """The number of loader processes that this machine has cores for, between one and `wanted` if any is wanted.

    Each training process keeps one core. A message says if the number is lower than `wanted`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get(device_slots.WORKERS) or 1)
    number = min(wanted, max(1, cores // processes - 1))
    if number < wanted:
        listing.say(f"data.workers={wanted}: {number} here, of {cores} cores; more would only wait for each other")
    return number


def _as_is(batch: Any) -> Any:
    return batch


def _leave_signals(_: int) -> None:
    """Ignore signals in a loader process: the training process handles them and needs batches until it stops."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def seed_all(*key: int) -> None:
    """Seed python's, numpy's and torch's global generators from a key such as (seed, step, rank).

    Done before every step, so that no generator's state has to be saved: dropout and mixing of step n are the
    same in a run that was killed and one that was not.
    """
    word = _seed_cpu(*key)
    if _uses_a_device():  # without one in use, torch would record the call stack at every step
        torch.manual_seed(word)  # the devices' too


def _uses_a_device() -> bool:
    if not torch.accelerator.is_available():
        return False
    return bool(getattr(torch.get_device_module(), "is_initialized", lambda: True)())


def _seed_cpu(*key: int) -> int:
    word = int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])
    random.seed(word)
    np.random.seed(word)
    torch.default_generator.manual_seed(word)
    return word


def draw(function: Callable[[Any], Any], example: Any, *key: int) -> Any:
    """Apply a randomised function with generators seeded by a key, and leave the global ones as they were.

    The devices' generators are not changed: dropout there must not depend on which process prepared a batch.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    _seed_cpu(*key)
    try:
        return function(example)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
