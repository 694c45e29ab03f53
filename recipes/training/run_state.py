"""What a run comes to, how it may end, and where it says so."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from recipes.files import write_picture
from recipes.runs.record import Record
from recipes.runs.tracker import Tracker


class DivergedError(Exception):
    """The loss or the metric is not finite any more: a result, not a failure."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"{cause} at step {step}")
        self.step, self.cause = step, cause


class InterruptedRunError(Exception):
    """The run was asked to stop and has written a checkpoint."""


@dataclass
class Journal:
    """Where measurements go: the record and its mirror on the first process, nowhere on the others."""

    record: Record | None = None
    tracker: Tracker | None = None

    def check(self) -> None:
        """Raise ConfigError where the record is not there any more."""
        if self.record is not None:
            self.record.check()

    def begin(self, step: int, redone: Collection[str] = ()) -> None:
        """Keep what was measured up to the step that the run goes on from."""
        if self.record is not None and self.tracker is not None:
            self.tracker.log(self.record.begin(step, redone))

    def log(self, step: int, split: str, values: dict[str, float], seconds: float) -> None:
        """Record measurements of one step."""
        if self.record is not None and self.tracker is not None:
            self.tracker.log(self.record.log(step, split, values, seconds))

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Keep a picture, uint8 [H, W, C], as a PNG file in the run's folder."""
        if self.record is not None and self.tracker is not None:
            self.tracker.picture(step, name, write_picture(self.record.folder / f"{name}.png", pixels))


@dataclass
class Outcome:
    """What a run has come to; filled while it goes on, so that a run cut short has its part."""

    metric: str = ""
    final: float | None = None
    best: float | None = None
    test: dict[str, float] = field(default_factory=dict)
    num_parameters: int = 0
    optimizer_state_bytes: int = 0
    steps_per_second: float | None = None
    optimizer_step_ms: float | None = None  # the step alone
    optimizer_step: str | None = None  # its kind: fused, foreach or loop
    data_fingerprint: dict[str, str] = field(default_factory=dict)
    tokenizer: str | None = None  # what its tokens are, where it reads texts
    seconds: dict[str, float] = field(default_factory=dict)
