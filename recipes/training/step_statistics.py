"""Statistics of the steps between two log entries: mean loss, speed, the first step that is not finite."""

import math
import statistics
from dataclasses import dataclass

import torch
from accelerate import Accelerator


@dataclass
class Window:
    """Some consecutive steps."""

    loss: float | None  # mean over the steps before the first bad one
    bad_step: int | None  # 1-based step whose loss or gradient was not finite
    cause: str | None  # which of them, and its value
    steps_per_second: float


class StepStatistics:
    """Collects the steps of a window; losses and gradient norms stay on the device until the window ends.

    Args:
        first: the step at which the run starts or continues.
        most: the largest number of steps in a window.
        accelerator: of the processes whose mean is taken.
        steps: loss and gradient norm of the window's steps before `first`, if a checkpoint was written within it.
    """

    def __init__(self, first: int, most: int, accelerator: Accelerator, steps: list[list[float]] | None = None) -> None:
        steps = steps or []
        self.first, self.start = first, first - len(steps)
        self._timed = first  # the timed part of the window begins here
        self.rates: list[float] = []
        self.optimizer_seconds: list[float] = []
        self._seconds = 0.0
        self._warming = False
        self._accelerator = accelerator
        self._steps = torch.zeros(max(most, len(steps) + 1), 2, device=accelerator.device)  # loss, gradient norm
        if steps:
            self._steps[: len(steps)] = torch.tensor(steps)

    def add_loss(self, step: int, loss: torch.Tensor) -> None:
        """Add a micro-batch's share of the loss of a step (0-based)."""
        self._steps[step - self.start, 0] += loss.detach()

    def add_gradient(self, step: int, norm: torch.Tensor) -> None:
        """Set the gradient norm of a step (0-based); of a sharded gradient, this process's part is enough.

        A gradient that is not finite corrupts every optimizer's state, but not every optimizer's next loss: a sign
        update hides it. So gradients are checked here, for all optimizers alike.
        """
        self._steps[step - self.start, 1] = norm.to_local() if hasattr(norm, "to_local") else norm

    def add_seconds(self, seconds: float) -> None:
        """Add time spent on training; evaluation, logging and checkpoints do not count."""
        self._seconds += seconds

    def steps(self, done: int) -> list[list[float]]:
        """Loss and gradient norm of each step of the window so far, after `done` steps: means over all processes."""
        values: list[list[float]] = self._accelerator.reduce(self._steps[: done - self.start].clone(), "mean").tolist()
        return values

    def close(self, done: int) -> Window:
        """End the window after `done` steps of the run, and begin the next."""
        steps = self.steps(done)
        bad = next((i for i, step in enumerate(steps) if not all(map(math.isfinite, step))), None)
        good = [loss for loss, _ in steps[:bad]]
        rate = (done - self._timed) / self._seconds
        if len(self.rates) == 1 and self._warming:
            self.rates.clear()  # the first window includes warm-up; it counts only if there is no other
        self._warming = self._timed == self.first
        self.rates.append(rate)
        self.start, self._timed, self._seconds = done, done, 0.0
        self._steps.zero_()
        return Window(
            loss=statistics.fmean(good) if good else None,
            bad_step=None if bad is None else done - len(steps) + bad + 1,
            cause=None if bad is None else _cause(*steps[bad]),
            steps_per_second=rate,
        )

    @property
    def steps_per_second(self) -> float:
        """Median over the windows."""
        return statistics.median(self.rates)

    @property
    def optimizer_step_ms(self) -> float:
        """Median time of the optimizer's step alone, in milliseconds: no clipping, no averaging of weights."""
        return 1000 * statistics.median(self.optimizer_seconds)


def gradient_size(gradients: list[torch.Tensor]) -> torch.Tensor:
    """The sum of gradients' norms, of shards this process's part: finite where every gradient is.

    Without clipping it is computed at every step, so it uses the cheapest reduction over many tensors.
    """
    parts = [g.to_local() if hasattr(g, "to_local") else g for g in gradients]
    return torch.stack(torch._foreach_norm(parts)).sum()


def _cause(loss: float, gradient: float) -> str:
    return f"training loss is {loss}" if not math.isfinite(loss) else f"gradient norm is {gradient}"


def floats(values: dict[str, torch.Tensor]) -> dict[str, float]:
    """Numbers from scalars, sharded ones among them."""
    return {k: float(v.full_tensor() if hasattr(v, "full_tensor") else v) for k, v in values.items()}
