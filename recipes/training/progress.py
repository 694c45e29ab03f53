"""The progress line of a run: rewritten in place on a terminal, printed at intervals elsewhere."""

import math
import os
import shutil
import sys
import time
from typing import Self

from recipes.figure_format import unit


def duration(seconds: float) -> str:
    """Seconds as 1:02:03, or 2:03 under an hour."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


FIRST = 2.0  # seconds before the first line if the output is not a terminal


class Progress:
    """Prints step, loss, metric, steps per second and time left.

    Args:
        steps: length of the run.
        every: least seconds between two lines if the output is not a terminal.
    """

    def __init__(self, steps: int, *, every: float = 5.0, shown: bool = True) -> None:
        self.steps, self.shown = steps, shown
        self.metric = ""  # the last evaluation, as text
        # A dumb terminal cannot clear a line: it is treated as a file.
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self._every = 0.2 if self._terminal else every
        # The first line comes soon, to show that a short or slow run progresses.
        self._printed = 0.0 if self._terminal else time.monotonic() - max(0.0, every - FIRST)
        self._open = False
        self._closed = False  # a window is complete, so there is a loss to show
        self._begun: tuple[int, float] | None = None  # a step and the time of its end

    def update(self, step: int, loss: float | None, rate: float) -> None:
        """Show the state after `step` steps, unless the last line is too recent."""
        self._closed = True
        now = time.monotonic()
        if not self.shown or (now - self._printed < self._every and step < self.steps):
            return
        self._show(step, now, f"loss {math.nan if loss is None else loss:.4f}", rate)

    def evaluated(self, metric: str, value: float, goal: str) -> None:
        """Take the last evaluation's figure, which the following lines show."""
        self.metric = f"val {metric} {unit(goal, [value]).figure(value)}"

    def begin(self, step: int) -> None:
        """Show the step before the first window of steps has a loss."""
        if not self.shown or self._closed:
            return
        now = time.monotonic()
        if self._begun is None:
            self._begun = step, now
        elif now - self._printed >= self._every and now > self._begun[1]:
            self._show(step, now, "", (step - self._begun[0]) / (now - self._begun[1]))

    def _show(self, step: int, now: float, loss: str, rate: float) -> None:
        self._printed = now
        parts = [
            f"step {step:>{len(str(self.steps))}}/{self.steps}",
            loss,
            self.metric,
            f"{rate:.1f} steps/s",
            f"{duration((self.steps - step) / rate)} left",
        ]
        line = "  ".join(parts)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be cleared
            for least in (2, 2, 1):  # dropped in this order: metric, steps per second, loss
                if len(line) > width:
                    del parts[least]
                    line = "  ".join(parts)
            print(f"\r\x1b[2K{line[:width]}", end="", flush=True)
            self._open = True
        else:
            print(line, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the line, so that later output starts below it."""
        if self._open:
            print(flush=True)
            self._open = False
