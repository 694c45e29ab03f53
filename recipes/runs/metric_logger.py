"""Measurements go to the run record and to its mirror."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from recipes.files import write_picture
from recipes.runs.record import Record
from recipes.runs.tracker import Tracker


@dataclass
class RecordLogger:
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
