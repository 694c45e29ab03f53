"""The micro-batches of an optimizer step, and the weight of each one's loss."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from accelerate import Accelerator

from recipes.training.sampler import Batch


def weighted(
    batches: Iterator[Batch], targets: Callable[[Batch], Any], accumulate: int, accelerator: Accelerator
) -> Iterator[tuple[Batch, float | torch.Tensor]]:
    """The next `accumulate` batches of this process, each with the weight of its loss, 1 on average over all parts.

    If a loss is a mean over targets whose number differs between parts, the whole batch's mean needs each part weighted
    by its number of targets.

    Args:
        batches: of this process, on its device.
        targets: the number of a batch's targets as a tensor, or None if it is the same for all.
        accumulate: micro-batches of a step.
        accelerator: of the processes that share the step.
    """
    parts = accumulate * accelerator.num_processes
    batch = next(batches)
    if parts == 1 or targets(batch) is None:
        yield batch, 1.0
        yield from ((next(batches), 1.0) for _ in range(accumulate - 1))
        return
    together = [batch, *itertools.islice(batches, accumulate - 1)]
    counts = torch.stack([targets(each) for each in together])
    total = accelerator.reduce(counts.sum(), "sum").clamp(min=1)
    yield from zip(together, counts * parts / total, strict=True)
