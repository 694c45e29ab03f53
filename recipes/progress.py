"""One line that says where a run is: rewritten in place on a terminal, printed now and then elsewhere."""

import math
import sys
import time
from typing import Self


def duration(seconds: float) -> str:
    """Seconds as 1:02:03, or 2:03 under an hour."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """Prints step, loss, metric, steps per second and time left.

    Args:
        steps: length of the run.
        every: least seconds between two lines where the output is no terminal.
    """

    def __init__(self, steps: int, *, every: float = 5.0, shown: bool = True) -> None:
        self.steps, self.shown = steps, shown
        self.metric = ""  # the last evaluation, as text
        self._terminal = sys.stdout.isatty()
        self._every = 0.2 if self._terminal else every
        self._printed = time.monotonic() if not self._terminal else 0.0
        self._open = False

    def update(self, step: int, loss: float | None, rate: float) -> None:
        """Show the state after `step` steps, unless the last line is too young."""
        now = time.monotonic()
        if not self.shown or (now - self._printed < self._every and step < self.steps):
            return
        self._printed = now
        shown_loss = math.nan if loss is None else loss
        line = (
            f"step {step:>{len(str(self.steps))}}/{self.steps}  loss {shown_loss:.4f}  {self.metric}  "
            f"{rate:.1f} steps/s  {duration((self.steps - step) / rate)} left"
        )
        if self._terminal:
            print(f"\r\x1b[2K{line}", end="", flush=True)
            self._open = True
        else:
            print(line, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the line, so that what follows stands below it."""
        if self._open:
            print(flush=True)
            self._open = False
