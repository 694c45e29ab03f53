"""What the steps between two lines of the record came to: mean loss, first bad step, pace."""

import math
import statistics
from dataclasses import dataclass

import torch
from accelerate import Accelerator


@dataclass
class Window:
    """Some consecutive steps."""

    loss: float | None  # mean over the steps before the first bad one
    bad_step: int | None  # 1-based step whose loss was not finite
    bad_loss: float | None
    steps_per_second: float


class Meter:
    """Collects the steps of a window; the losses stay on the device until it closes.

    Args:
        first: the step that the run starts or goes on from.
        most: steps in a window at most.
        accelerator: of the processes whose mean is taken.
        losses: those of the window's steps before `first`, where a checkpoint fell into it.
    """

    def __init__(self, first: int, most: int, accelerator: Accelerator, losses: list[float] | None = None) -> None:
        losses = losses or []
        self.first, self.start = first, first - len(losses)
        self._timed = first  # the clock's part of the window begins here
        self.rates: list[float] = []
        self.optimizer_seconds: list[float] = []
        self._seconds = 0.0
        self._warming = False
        self._accelerator = accelerator
        self._losses = torch.zeros(max(most, len(losses) + 1), device=accelerator.device)
        self._losses[: len(losses)] = torch.tensor(losses)

    def add_loss(self, step: int, loss: torch.Tensor) -> None:
        """Add a micro-batch's share of the loss of a step (0-based)."""
        self._losses[step - self.start] += loss.detach()

    def add_seconds(self, seconds: float) -> None:
        """Add time that training took: evaluation, logging and checkpoints are nobody's speed."""
        self._seconds += seconds

    def losses(self, done: int) -> list[float]:
        """The loss of each step of the window so far, after `done` steps of the run: means over all processes."""
        found: list[float] = self._accelerator.reduce(self._losses[: done - self.start].clone(), "mean").tolist()
        return found

    def close(self, done: int) -> Window:
        """End the window after `done` steps of the run, and begin the next."""
        losses = self.losses(done)
        bad = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
        good = losses[:bad]
        rate = (done - self._timed) / self._seconds
        if len(self.rates) == 1 and self._warming:
            self.rates.clear()  # the first window warms caches up; it counts only where there is no other
        self._warming = self._timed == self.first
        self.rates.append(rate)
        self.start, self._timed, self._seconds = done, done, 0.0
        self._losses.zero_()
        return Window(
            loss=statistics.fmean(good) if good else None,
            bad_step=None if bad is None else done - len(losses) + bad + 1,
            bad_loss=None if bad is None else losses[bad],
            steps_per_second=rate,
        )

    @property
    def steps_per_second(self) -> float:
        """Median over the windows."""
        return statistics.median(self.rates)

    @property
    def optimizer_step_ms(self) -> float:
        """Median time of clipping, update and averaging, in milliseconds."""
        return 1000 * statistics.median(self.optimizer_seconds)
